"""New images read by a finished run: by the target, by one command, and with what training saw."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from running import SMALL, place, planned, snakemake

from radtune import files
from radtune.data.phantom import write_dataset

pytestmark = pytest.mark.slow
FILES = ("--configfile", "config/demo.yaml", "small.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run whose target `read` was given a picture of its own data and a broken file."""
    folder = place(tmp_path_factory.mktemp("read"))
    write_dataset(folder / "rows", 24, 3, 1)
    row = pq.read_table(folder / "rows" / "train-00000-of-00001.parquet").slice(30, 1).to_pylist()[0]
    (folder / "new").mkdir()
    (folder / "new" / "known.jpg").write_bytes(row["image"]["bytes"])
    (folder / "new" / "broken.jpg").write_bytes(row["image"]["bytes"][:900])
    changes = {"dataset": {"source": "local", "path": "rows"}, "read": {"path": "new"}}
    later = {"retrieval": {"used_in": "prediction", "k": 2}, "training": None, "init_adapter": "lora"}
    changes["experiments"] = SMALL["experiments"] | {"lora": {"generation": {"chunks": 2}}, "later": later}
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL | changes))
    done = snakemake(folder, *FILES, "--", "read")
    assert done.returncode == 0, done.stdout[-4000:]
    return folder


def reading(finished: Path, experiment: str = "lora") -> dict[str, Any]:
    return files.read_json(finished / "results/small/read" / experiment / "reading.json")


def radtune(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from radtune.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False)


def test_the_target_reads_with_the_tuned_model(finished: Path) -> None:
    found = reading(finished)
    assert (found["experiment"], found["model"]["tuned"]) == ("lora", True)
    assert [image["file"] for image in found["images"]] == ["known.jpg"]
    assert [lost["reason"] for lost in found["unreadable"]] == ["image_unreadable"]
    assert set(found["scores"]) == set(found["images"][0]["tasks"])
    assert len(found["scores"]) == 6
    page = (finished / "results/small/read/lora/index.html").read_text()
    assert "Research use, not for diagnosis." in page
    assert "known.jpg" in page


def test_the_model_is_given_what_training_gave_it(finished: Path) -> None:
    from transformers import AutoProcessor

    from radtune.predict.generate import encode

    results, read = finished / "results/small", finished / "results/small/read/lora/prepared"
    (trained_on,) = {
        path
        for path in (results / "images").rglob("*.jpg")
        if path.stem.startswith(reading(finished)["images"][0]["id"])
    }
    (prepared,) = (read / "images").iterdir()
    assert prepared.read_bytes() == trained_on.read_bytes()
    processor = AutoProcessor.from_pretrained(next((results / "model").glob("tiny-*")))
    (dataset,) = (results / "sharegpt").iterdir()
    samples = [one for split in ("train", "validation", "test") for one in files.read_json(dataset / f"{split}.json")]
    name = trained_on.relative_to(results / "images").as_posix()
    asked = files.read_json(read / "questions.json")
    same = 0
    for sample in [one for one in samples if one["images"] == [name]]:
        question = next(one for one in asked if one["tag"] == sample["tag"])
        if question["messages"][0] != sample["messages"][0]:
            continue  # another of the task's wordings
        limits = {"image_max_pixels": 9216, "image_min_pixels": 1024}
        ours, theirs = (
            encode(processor, question, read, **limits),
            encode(processor, sample, results / "images", **limits),
        )
        assert ours.keys() == theirs.keys()
        assert all((ours[key] == theirs[key]).all() for key in ours)
        same += 1
    assert same >= 1


def test_one_command_says_the_same(finished: Path) -> None:
    done = radtune(finished, "read", "new", "--run", "results/small", "--out", "by_hand")
    assert done.returncode == 0, done.stderr
    assert "reading with lora of results/small" in done.stderr
    assert files.read_json(finished / "by_hand/reading.json") == reading(finished)
    base = radtune(
        finished, "read", "new/known.jpg", "--experiment", "base", "--tasks", "caption", "box", "--out", "base"
    )
    assert base.returncode == 0, base.stderr
    (image,) = files.read_json(finished / "base/reading.json")["images"]
    assert set(image["tasks"]) == {"CAPTION", "DETECT_REGION_LOC"}
    for question, sentence in (
        (("new/broken.jpg",), "radtune: none of 1 files can be read: The image cannot be decoded in full.\n"),
        (("new", "--experiment", "lara"), "has no experiment lara; did you mean lora?\n"),
        (("new", "--tasks", "side"), "take of caption, details, region, record, box, description.\n"),
        (("new", "--out", "rows"), "radtune: rows exists and is no reading; name another folder: --out.\n"),
    ):
        wrong = radtune(finished, "read", *question, *([] if "--out" in question else ["--out", "wrong"]))
        assert wrong.returncode == 1
        assert wrong.stderr.endswith(sentence), wrong.stderr
        assert not (finished / "wrong").exists()


def test_similar_cases_are_shown_and_asked_with_where_the_experiment_does(finished: Path, tmp_path: Path) -> None:
    results = finished / "results" / "small"
    (dataset,) = (results / "sharegpt").iterdir()
    train = files.read_json(dataset / "train.json")
    answers = {(one["images"][0], one["tag"]): one["messages"][-1]["content"] for one in train}
    (image,) = reading(finished)["images"]
    assert len(image["similar"]) == 3
    assert [case["similarity"] for case in image["similar"]] == sorted(
        (case["similarity"] for case in image["similar"]), reverse=True
    )
    for case in image["similar"]:
        assert case["answers"] == {tag: answer for (name, tag), answer in answers.items() if name == case["image"]}
    read = results / "read" / "lora"
    assert files.read_json(read / "similar/questions.json") == files.read_json(read / "prepared/questions.json")
    assert "Similar training cases" in (read / "index.html").read_text()
    image_and_run = (str(finished / "new/known.jpg"), "--run", str(results))
    done = radtune(tmp_path, "read", *image_and_run, "--experiment", "later", "--tasks", "caption", "--out", "later")
    assert done.returncode == 0, done.stderr  # started elsewhere
    found = files.read_json(tmp_path / "later/reading.json")
    assert found["model"]["tuned"]
    (later,) = found["images"]
    assert [case["image"] for case in later["similar"]] == [case["image"] for case in image["similar"][:2]]
    for case in later["similar"]:
        assert " ".join(case["answers"]["CAPTION"].split()) in later["tasks"]["CAPTION"]["prompt"]


def test_one_more_image_makes_the_reading_stale_and_nothing_else(finished: Path) -> None:
    def plan() -> dict[str, int]:
        return planned(snakemake(finished, *FILES, "--dry-run", "--quiet", "rules", "--", "read").stdout)

    assert plan() == {}
    buffer = io.BytesIO()
    Image.new("L", (60, 90), 80).save(buffer, "PNG")
    (finished / "new" / "deeper").mkdir()
    (finished / "new" / "deeper" / "more.png").write_bytes(buffer.getvalue())
    assert plan() == {"prepare_reading": 1, "find_similar": 1, "predict_reading": 2, "write_reading": 1}
    done = snakemake(finished, *FILES, "--", "read")
    assert done.returncode == 0, done.stdout[-4000:]
    found = reading(finished)
    assert [image["file"] for image in found["images"]] == ["deeper/more.png", "known.jpg"]
    assert len(list((finished / "results/small/read/lora").glob("predictions.*-of-2.jsonl"))) == 2
