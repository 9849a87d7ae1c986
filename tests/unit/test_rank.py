"""What a trainer says of itself while it runs, and what one leaves behind that was killed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRAINER = """
import os, signal, time
from radtune.train import rank
rank.end_children_with_parent()
if os.fork() == 0:
    print("forked", flush=True)
    time.sleep(60)
else:
    time.sleep(60)
"""


def test_what_a_killed_trainer_forked_ends_and_lets_go_of_its_output() -> None:
    process = subprocess.Popen([sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "forked\n"
    process.kill()
    assert process.communicate(timeout=10)[0] == ""  # the output ends only when nobody holds it


def train_line(folder: Path, *more: Any, **settings: Any) -> None:
    """transformers' own trainer on one weight, with radtune's callback: three steps an epoch."""
    import torch
    from transformers import Trainer, TrainingArguments

    from radtune.train.progress import Progress

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            return {"loss": ((self.slope * x - labels) ** 2).mean()}

    given = TrainingArguments(folder, per_device_train_batch_size=8, use_cpu=True, report_to="none", **settings)
    data = [{"x": torch.ones(1), "labels": torch.ones(1)}] * 24
    callbacks = [Progress(folder / "heartbeat.json"), *more]
    Trainer(Line(), given, train_dataset=data, eval_dataset=data, callbacks=callbacks).train()


@pytest.mark.parametrize(("limit", "steps"), [(None, {2, 3, 4, 6, 8, 9}), (2, {3, 9})])
def test_checkpoints_within_an_epoch_leave_the_best_of_the_epochs(
    tmp_path: Path, limit: int | None, steps: set[int]
) -> None:
    train_line(
        tmp_path,
        **{"num_train_epochs": 3, "eval_strategy": "epoch", "save_strategy": "epoch", "save_steps": 2},
        **{"load_best_model_at_end": True, "save_total_limit": limit},
        **{"optim": "sgd", "learning_rate": 1.1, "lr_scheduler_type": "constant", "max_grad_norm": 0},  # the loss grows
    )
    assert {int(path.name.removeprefix("checkpoint-")) for path in tmp_path.glob("checkpoint-*")} == steps


@pytest.mark.parametrize(("seconds", "steps"), [(0, [0, 1, 2, 3]), (3600, [0, 0, 0, 0])])
def test_the_heart_beats_long_before_a_loss_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, steps: list[int]
) -> None:
    """A loss is logged every 500 steps and so, in three, only at the end."""
    from transformers import TrainerCallback

    from radtune.train import progress

    found: list[dict[str, Any]] = []

    class Listener(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            found.append(json.loads((tmp_path / "heartbeat.json").read_text()))

        on_step_end = on_train_begin

    monkeypatch.setattr(progress, "BEAT", seconds)
    train_line(tmp_path, Listener(), max_steps=3, logging_steps=500, save_strategy="no")
    assert [row["step"] for row in found] == steps
    assert all(row["steps"] == 3 and row["loss"] is None for row in found)
    assert [row["seconds_left"] is None for row in found] == [step == 0 for step in steps]
    last = json.loads((tmp_path / "heartbeat.json").read_text())
    assert (last["step"], last["seconds_left"]) == (3, 0)
