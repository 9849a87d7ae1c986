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


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers' own way to be told of steps
    """Say in `heartbeat` (JSON) and in the log how far training is; save at epoch ends too, evaluate at the end, once.

    heartbeat: step, steps, loss (the last training loss), seconds_left (by the pace of this process), time (Unix).
    """

    def __init__(self, heartbeat: Path) -> None:
        self.heartbeat = heartbeat
        self.loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began, self.first_step = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.loss = logs.get("loss", self.loss)
        step, steps = state.global_step, state.max_steps
        pace = (time.monotonic() - self.began) / max(step - self.first_step, 1)
        left = 0 if "train_runtime" in logs else round(pace * (steps - step))  # that one is the last
        row = {"step": step, "steps": steps, "loss": self.loss, "seconds_left": left, "time": int(time.time())}
        temporary = self.heartbeat.with_suffix(".tmp")  # always the same, so that a resume takes away what a kill left
        temporary.write_text(json.dumps(row) + "\n", encoding="utf-8")
        temporary.replace(self.heartbeat)
        if "loss" in logs:
            tqdm.write(f"step {step} of {steps}, loss {self.loss}, {timedelta(seconds=left)} left")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy == "steps":
            control.should_evaluate = True  # eval_steps seldom divides the number of steps

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
