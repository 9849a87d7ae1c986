"""The measurement of the 8B job, at a tiny size on the CPU."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from running import ROOT
from transformers import AutoProcessor

from radtune import files
from radtune.train import launch, lengths

sys.path.append(str(ROOT / "bench"))
import predict

import gpu as bench

pytestmark = pytest.mark.slow
SPEED = {"neat_packing", "per_device_train_batch_size", "disable_gradient_checkpointing", "quantization_bit"}
STEPS = {
    "prepare": {"parameters", "prompt_tokens", "tflops"},
    "train-ours": {"estimate_gib", "peak_gib", "samples_per_update", "padding", "samples_per_second"}
    | {"tokens_per_second", "mfu", "seconds"},
    "predict-4": {"estimate_gib", "peak_gib", "samples_per_second", "samples_per_second_without_start", "seconds"}
    | {"largest_batch"},
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
    assert found["predict-4"]["estimate_gib"] < found["predict-4"]["peak_gib"]
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


def test_more_samples_than_there_are_come_again_under_other_ids() -> None:
    records = [{"id": "a", "tag": "CAPTION"}, {"id": "a", "tag": "OBSERVATION"}, {"id": "b", "tag": "CAPTION"}]
    assert predict.asked(records, None) == records
    assert predict.asked(records, 2) == records[:2]
    more = predict.asked(records, 8)
    assert len({(record["id"], record["tag"]) for record in more}) == len(more) == 8
    assert [record["tag"] for record in more[3:6]] == [record["tag"] for record in records]
