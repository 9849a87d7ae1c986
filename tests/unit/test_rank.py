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


@pytest.mark.parametrize(("seconds", "steps"), [(0, [0, 1, 2, 3]), (3600, [0, 0, 0, 0])])
def test_the_heart_beats_long_before_a_loss_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, steps: list[int]
) -> None:
    """transformers' own trainer on one weight, which logs a loss every 500 steps and so, in three, only at the end."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from radtune.train import progress

    heartbeat = tmp_path / "heartbeat.json"
    found: list[dict[str, Any]] = []

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            return {"loss": ((self.slope * x - labels) ** 2).mean()}

    class Listener(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            found.append(json.loads(heartbeat.read_text()))

        on_step_end = on_train_begin

    monkeypatch.setattr(progress, "BEAT", seconds)
    settings = TrainingArguments(
        tmp_path / "out", max_steps=3, logging_steps=500, save_strategy="no", use_cpu=True, report_to="none"
    )
    data = [{"x": torch.ones(1), "labels": torch.ones(1)}] * 24
    Trainer(Line(), settings, train_dataset=data, callbacks=[progress.Progress(heartbeat), Listener()]).train()
    assert [row["step"] for row in found] == steps
    assert all(row["steps"] == 3 and row["loss"] is None for row in found)
    assert [row["seconds_left"] is None for row in found] == [step == 0 for step in steps]
    last = json.loads(heartbeat.read_text())
    assert (last["step"], last["seconds_left"]) == (3, 0)
