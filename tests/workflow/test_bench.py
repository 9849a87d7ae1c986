"""The measurement of the 8B job, at a tiny size on the CPU, and the real job's own flags on what it has prepared."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ROOT
from transformers import AutoProcessor

from radtune import files
from radtune.config import resolve
from radtune.train import launch, lengths

sys.path.append(str(ROOT / "bench"))
import predict
import train

import gpu as bench

pytestmark = pytest.mark.slow
SPEED = {"neat_packing", "per_device_train_batch_size", "disable_gradient_checkpointing", "quantization_bit"}
PREDICTED = {"estimate_gib", "peak_gib", "samples_per_second", "samples_per_second_without_start", "seconds"}
STEPS = {
    "prepare": {"parameters", "prompt_tokens", "tflops"},
    "train-ours": {"estimate_gib", "peak_gib", "samples_per_update", "padding", "samples_per_second"}
    | {"tokens_per_second", "mfu", "seconds"},
    "predict-4": PREDICTED | {"largest_batch"},
    "do-predict-2": PREDICTED,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the steps leave, each run as a user would."""
    out = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gpu.py", "--size=tiny", f"--folder={out}", *STEPS])
        patch.chdir(ROOT)
        for name, value in launch.OFFLINE.items():
            patch.setenv(name, value)
        bench.main()
    return out


def test_each_step_writes_its_figures(folder: Path) -> None:
    found = files.read_json(folder / "figures.json")
    assert {step: set(figures) for step, figures in found.items() if step != "machine"} == STEPS
    assert {"device", "torch", "transformers", "llamafactory", "slow_conv3d", "size"} == set(found["machine"])
    assert found["train-ours"].pop("peak_gib") is None  # the check before training measures on a GPU
    numbers = [value for step in STEPS for value in found[step].values()]
    assert all(value > 0 for value in numbers)
    assert found["train-ours"]["mfu"] < 1
    assert found["predict-4"]["largest_batch"] == 4
    for step in ("predict-4", "do-predict-2"):
        assert found[step]["estimate_gib"] < found[step]["peak_gib"]
    assert len(files.read_jsonl(folder / "predict-4.jsonl")) == bench.ASKED["tiny"]


def test_the_ways_to_train_differ_in_what_costs_time_at_the_same_effective_batch(folder: Path) -> None:
    """Of the 8B job, whose images are 196 tokens, with as many samples."""
    records = files.read_json(folder / "train.json")
    tokens = {image: 196 for record in records for image in record["images"]}
    processor = AutoProcessor.from_pretrained(folder / "model")
    totals = [sample.total for sample in lengths.measure(records, processor, tokens)]
    totals *= bench.TRAIN["8b"] // len(totals)
    seen = []
    for name in bench.WAYS:
        settings = bench.settings("8b", name)
        epoch = lengths.epoch(totals, settings, 1)
        samples = len(totals) / epoch["micro_batches"] * settings["gradient_accumulation_steps"]
        assert samples == pytest.approx(16, rel=0.05), name
        assert max(totals) <= lengths.room(settings), name
        seen.append({key: settings.get(key) for key in SPEED})
    assert all(one not in seen[:n] for n, one in enumerate(seen))


def test_a_step_without_memory_or_time_is_told_and_the_next_one_begins() -> None:
    greedy = "import torch; torch.empty(2**50)"
    assert bench.attempt(lambda until: {"took": bench.run(greedy, until=until)[0]}) == {"out_of_memory": True}
    slow = bench.attempt(lambda _: {"took": bench.run("import time; time.sleep(600)", until=time.monotonic() + 1)[0]})
    assert slow == {"failed": f"took more than {bench.STEP_SECONDS} s"}
    wrong = bench.attempt(lambda until: {"took": bench.run("raise SystemExit('no such thing')", until=until)[0]})
    assert wrong == {"failed": "no such thing"}


def test_the_real_jobs_flags_keep_the_best_checkpoint_and_stop_when_it_gets_worse(folder: Path) -> None:
    """config.yaml's own, but for what a CPU cannot do and a rate at which the loss soon rises."""
    config: dict[str, Any] = resolve(yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8")))
    settings = config["experiments"]["lora"]["training"] | {"bf16": False, "image_max_pixels": 9216}
    settings |= {"learning_rate": 0.3, "num_train_epochs": 12, "lr_scheduler_type": "constant", "max_samples": 32}
    out = folder / "best"
    places: dict[str, Any] = {"model": folder / "model", "dataset_dir": folder, "media_dir": folder}
    launch.train(settings, **places, dataset="train", eval_dataset="test", out=out, weights=out / "adapter")
    summary = files.read_json(out / "summary.json")
    losses = [row["eval_loss"] for row in files.read_jsonl(out / "trainer_log.jsonl") if "eval_loss" in row]
    assert len(losses) == summary["epochs"] < 12  # once an epoch
    assert min(losses) == losses[-2]
    (run_dir,) = out.glob("run-*")
    assert len(list(run_dir.glob("checkpoint-*"))) == 2
    best = run_dir / f"checkpoint-{summary['eval_loss']['best_step']}" / "adapter_model.safetensors"
    assert best.read_bytes() == (out / "adapter" / "adapter_model.safetensors").read_bytes()


def test_samples_grouped_by_length_are_trained_on_with_less_padding(folder: Path) -> None:
    settings = bench.settings("tiny", "reference") | {"max_samples": 32}
    places = {"model": folder / "model", "dataset_dir": folder, "media_dir": folder}
    given = {}
    for name, grouped in (("random", False), ("grouped", True)):
        _, given[name] = train.run(settings | {"group_by_length": grouped}, places, "all", folder / name)
    assert 0 < given["grouped"] < 0.9 * given["random"]


def test_more_samples_than_there_are_come_again_under_other_ids() -> None:
    records = [{"id": "a", "tag": "CAPTION"}, {"id": "a", "tag": "OBSERVATION"}, {"id": "b", "tag": "CAPTION"}]
    assert predict.asked(records, None) == records
    assert predict.asked(records, 2) == records[:2]
    more = predict.asked(records, 8)
    assert len({(record["id"], record["tag"]) for record in more}) == len(more) == 8
    assert [record["tag"] for record in more[3:6]] == [record["tag"] for record in records]
