"""What radtune adds to LLaMA-Factory's training loop: a heartbeat, what is saved and evaluated when, and a resume that
sees each sample of an epoch once.
"""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import transformers.trainer
from tqdm import tqdm
from transformers import TrainerCallback

BEAT = 10  # seconds between two heartbeats, where no step takes longer


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers' own way to be told of steps
    """Say in `heartbeat` (JSON) and in the log how far training is; save every save_steps and at epoch ends,
    evaluate at the end, once.

    heartbeat: step, steps, loss (the last training loss), seconds_left (by the pace of this process), time (Unix). Loss
    and seconds are null until there are any.
    """

    def __init__(self, heartbeat: Path) -> None:
        self.heartbeat = heartbeat
        self.loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began, self.first_step = time.monotonic(), state.global_step
        self.loss = next((entry["loss"] for entry in state.log_history[::-1] if "loss" in entry), None)
        self.beat(state)

    def beat(self, state: Any, *, last: bool = False) -> int | None:
        """Write the heartbeat; the seconds left."""
        done, self.beaten = state.global_step - self.first_step, time.monotonic()
        pace = (self.beaten - self.began) / done if done else None
        left = 0 if last else pace and round(pace * (state.max_steps - state.global_step))
        row = {"step": state.global_step, "steps": state.max_steps, "loss": self.loss, "seconds_left": left}
        if state.is_world_process_zero:
            temporary = self.heartbeat.with_suffix(".tmp")  # always the same, so that a resume takes away a kill's
            temporary.write_text(json.dumps(row | {"time": int(time.time())}) + "\n", encoding="utf-8")
            temporary.replace(self.heartbeat)
        return left

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        self.loss = logs.get("loss", self.loss)
        left = self.beat(state, last="train_runtime" in logs)
        if "loss" in logs and state.is_world_process_zero:
            time_left = timedelta(seconds=left or 0)
            tqdm.write(f"step {state.global_step} of {state.max_steps}, loss {self.loss}, {time_left} left")

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if time.monotonic() - self.beaten >= BEAT:
            self.beat(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_prediction_step(args, state, control)
        if state.global_step >= state.max_steps and args.eval_strategy == "steps":
            control.should_evaluate = True  # eval_steps seldom divides the number of steps
        if args.save_strategy == "epoch" and state.global_step % state.save_steps == 0:
            control.should_save = True  # an epoch can take a day

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        saved = state.global_step % state.save_steps == 0 or state.global_step >= state.max_steps
        if args.save_strategy == "steps" and not saved:
            control.should_save = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.eval_strategy != "no":
            args.do_eval = False  # LLaMA-Factory would evaluate the last step again, for a file that nobody reads


def keep_epoch_when_skipping() -> None:
    """Let a run that is resumed within an epoch see the rest of that epoch, and not of the first.

    accelerate's skip_first_batches makes a new loader, whose epoch is 0: its sampler would shuffle as in epoch 0, so
    that some samples came twice and others not at all.
    """
    skip_first_batches = transformers.trainer.skip_first_batches

    def skip(dataloader: Any, num_batches: int = 0) -> Any:
        rest = skip_first_batches(dataloader, num_batches)
        if hasattr(dataloader, "iteration"):
            rest.iteration = dataloader.iteration
        return rest

    transformers.trainer.skip_first_batches = skip
