"""The demo for real: parquet to report, with a model that was really trained.

It runs where `make demo` runs it, so that of the two the second finds it done.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, offline, snakemake

from radtune.files import read_json, read_jsonl

pytestmark = pytest.mark.slow
EXPERIMENTS = ("base", "lora", "lora_worded", "lora_cases")
CONFIG = ("--resources", "gpu=2", "--configfile", "config/demo.yaml")


@pytest.fixture(scope="module")
def demo() -> Path:
    """The folder of the finished demo, which ran without any network."""
    done = snakemake(ROOT, *CONFIG, before=offline())
    assert done.returncode == 0, done.stdout[-6000:]
    return ROOT


def scores(demo: Path, experiment: str) -> dict[str, dict[str, Any]]:
    return read_json(demo / "results" / "demo" / "evaluate" / experiment / "test.json")["overall"]["metrics"]


@pytest.mark.parametrize(("metric", "margin"), [("rouge_l", 0), ("semantic", 2), ("slots", 8), ("finding_f1", 5)])
def test_a_tuned_model_beats_the_base_and_its_best_floor(demo: Path, metric: str, margin: float) -> None:
    """ROUGE-L of answers drawn from few phrases has little room."""
    tuned, base = scores(demo, "lora")[metric], scores(demo, "base")[metric]
    assert set(tuned["floors"]) == {"shuffled", "common", "nearest", "blank"}
    assert tuned["value"] > base["value"] + 20
    assert tuned["value"] > tuned["floor"] + margin
    assert metric == "rouge_l" or tuned["lift_interval"][0] > 0


def test_no_test_image_stands_in_train(demo: Path) -> None:
    leakage = read_json(demo / "results" / "demo" / "data" / "leakage.json")
    assert leakage["as_delivered"]["images"]["test_in_train"] > 0
    assert leakage["after"]["images"]["test_in_train"] == 0


def test_every_test_sample_is_predicted_once(demo: Path) -> None:
    files = list((demo / "results" / "demo" / "sharegpt").glob("*/test.json"))
    assert len(files) == 3  # as it is, with more wordings, with cases
    expected = [(entry["id"], entry["tag"]) for entry in read_json(files[0])]
    for experiment in EXPERIMENTS:
        rows = read_jsonl(demo / "results" / "demo" / "predict" / experiment / "test.jsonl")
        assert [(row["id"], row["tag"]) for row in rows] == expected


def test_shared_stages_ran_once(demo: Path) -> None:
    made = demo / "results" / "demo"
    assert len(list((made / "model").iterdir())) == 1
    assert sorted(path.name for path in (made / "train").iterdir()) == sorted(EXPERIMENTS[1:])
    pairs = {(row["of"], row["minus"]) for row in read_json(made / "evaluate" / "differences.json")["differences"]}
    assert len(pairs) == 6


def test_each_switch_has_its_effects_with_intervals(demo: Path) -> None:
    rows = read_json(demo / "results" / "demo" / "evaluate" / "differences.json")["differences"]
    found = {(row["of"], row["minus"], row["metric"]): row for row in rows}
    for metric in ("rouge_l", "semantic", "record_valid", "reworded_change_rouge_l", "reworded_change_slots"):
        for name in ("lora_worded", "lora_cases"):
            low, high = found[name, "lora", metric]["interval"]
            assert low <= found[name, "lora", metric]["value"] <= high
    copied = scores(demo, "lora_cases")["rouge_l"]["floors"]["copied"]
    assert copied["lift_interval"][0] <= copied["lift"] <= copied["lift_interval"][1]
    page = (demo / "results" / "demo" / "report" / "index.html").read_text()
    assert "lora_cases against nearest case, copied" in page


def test_train_and_eval_losses_fall(demo: Path) -> None:
    rows = read_jsonl(demo / "results" / "demo" / "train" / "lora" / "trainer_log.jsonl")
    for key in ("loss", "eval_loss"):
        losses = [row[key] for row in rows if key in row]
        assert len(losses) > 1
        assert losses[-1] < losses[0]


def test_a_second_run_does_nothing(demo: Path) -> None:
    assert "Nothing to be done" in snakemake(demo, *CONFIG).stdout


def test_nothing_speaks_of_networks(demo: Path) -> None:
    words = (
        "HTTPSConnection",
        "Max retries",
        "Connection refused",
        "Name or service",
        "name resolution",
        "offline mode",
    )
    for log in (demo / "results" / "demo" / "logs").rglob("*.log"):
        text = log.read_text(errors="replace")
        assert not [word for word in words if word in text], log


def test_train_yaml_runs_by_hand(demo: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "llamafactory-cli"
    command = [
        str(program),
        "train",
        "results/demo/train/lora/train.yaml",
        "max_steps=1",
        f"output_dir={tmp_path / 'out'}",
    ]
    done = subprocess.run(command, cwd=demo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_the_adapter_loads_in_peft(demo: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    (model,) = (demo / "results" / "demo" / "model").iterdir()
    base = AutoModelForImageTextToText.from_pretrained(model)
    tuned = PeftModel.from_pretrained(base, demo / "results" / "demo" / "train" / "lora" / "adapter")
    weights = {name: value for name, value in tuned.named_parameters() if "lora_B" in name}
    assert weights
    assert any(value.abs().max() > 0 for value in weights.values())
    assert not [name for name in weights if "visual" in name]  # vision tower and projector are frozen


def test_the_report_is_one_page_with_scores_losses_and_samples(demo: Path) -> None:
    page = (demo / "results" / "demo" / "report" / "index.html").read_text()
    assert page.count("data:image/") >= 6
    assert "<svg" in page
    assert all(f">{experiment}<" in page for experiment in EXPERIMENTS)
    assert 'src="http' not in page
    assert len(page) < 20_000_000


def test_the_readme_names_what_comes_out(demo: Path) -> None:
    for line in (ROOT / "README.md").read_text().splitlines():
        if line.startswith("| `results/demo/"):
            pattern = line.split("`")[1].removeprefix("results/demo/")
            assert list((demo / "results" / "demo").glob(pattern)), f"the demo wrote no {pattern}"
