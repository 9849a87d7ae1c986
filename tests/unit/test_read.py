"""Reading new images, all but the model: what is asked, which files are named, boxes back in the original, how sure."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from jsonschema import ValidationError
from PIL import Image
from test_dicom import RAMP, make, save
from test_prepare import prepare as prepare_all

from radtune import code
from radtune.config import resolve
from radtune.data.boxes import format_box
from radtune.digest import digest
from radtune.files import UserError, read_json, read_jsonl, write_json, write_jsonl
from radtune.frames import Box, Letterbox
from radtune.images.enhance import Recipe, enhance
from radtune.read.prepare import enhanced, pictures, prepare
from radtune.read.run import find, newest, scores, wordings
from radtune.read.write import reading, where, write_reading
from radtune.report.reading import card
from radtune.report.words import t

ASKED = {"CAPTION": "What is it?", "JSON_RECORD": "Write a record.", "DETECT_REGION_LOC": "Where is it?"}
RECIPE: dict[str, Any] = {"size": 224, "clip_limit": 2.0}
SECRET = "DOE^JANE"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a finished run leaves, as far as reading looks; its models are empty folders."""
    folder = tmp_path / "results" / "toy"
    raw = {
        "results": str(folder.relative_to(tmp_path)),
        "model": {"source": "tiny"},
        "images": {"enhanced": RECIPE_CONFIG},
    }
    later = {"training": None, "init_adapter": "lora", "retrieval": {"used_in": "prediction"}}
    config = resolve(raw | {"experiments": {"lora": {}, "other": {}, "later": later}})
    of = config["experiments"]["lora"]
    for path in (folder / "model" / of["model_name"], folder / "train" / "lora" / "adapter"):
        path.mkdir(parents=True)
    places = {"dataset_dir": f"{folder}/sharegpt/{of['dataset']}", "model_name_or_path": f"model/{of['model_name']}"}
    (folder / "train" / "lora" / "train.yaml").write_text(yaml.safe_dump(places))
    made_by = {"recipe": config["images"]["enhanced"], "code": code.digest("radtune.images.enhance")}
    write_json(folder / "train" / "lora" / "summary.json", {"steps": 1, "images": made_by})
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    turns = [(tag, prompt) for tag, prompt in ASKED.items() for _ in range(2)] + [("CAPTION", "Another wording?")]
    records = [
        {"id": str(n), "tag": tag, "messages": [{"role": "user", "content": f"<image>{prompt}"}, {}], "images": [""]}
        for n, (tag, prompt) in enumerate(turns)
    ]
    write_json(folder / "sharegpt" / of["dataset"] / "train.json", records)
    return folder


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A file of JSON or YAML with something else in it."""
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


RECIPE_CONFIG = {"size": 224, "clahe": {"clip_limit": 2.0}}


def png(width: int = 64, height: int = 48) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(width * height, dtype=np.uint32).reshape(height, width).astype(np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def asked(folder: Path, *paths: Path, run: Path, **settings: Any) -> dict[str, Any]:
    prepare(*paths, out=folder, train=find(run, "lora").train, **RECIPE, **settings)
    return read_json(folder / "files.json")


def answer(folder: Path, said: dict[str, str]) -> Path:
    """Predictions in place of a model's."""
    rows = [
        {"id": one["id"], "tag": one["tag"], "prompt": ASKED[one["tag"]], "prediction": said[one["tag"]]}
        | {"tokens": 3, "stopped": True}
        for one in read_json(folder / "questions.json")
    ]
    write_jsonl(folder.with_name("answers.jsonl"), rows)
    return folder.with_name("answers.jsonl")


SAID = {
    "CAPTION": "A <script>alert(1)</script> slice.",
    "JSON_RECORD": '{"caption": "a slice", "region of interest": "<b>left</b>", "bloc": null}',
    "DETECT_REGION_LOC": '[{"bbox_2d": [250, 250, 750, 500]}]',
}


@pytest.mark.parametrize("box", ["keep", "inpaint"])
def test_a_picture_becomes_what_enhancing_its_shard_makes_of_it(phantoms: Path, tmp_path: Path, box: str) -> None:
    shard = phantoms / "train-00000-of-00002.parquet"
    encoded = [row["image"]["bytes"] for row in pq.read_table(shard).to_pylist() if row["image"]]
    rows = {hashlib.sha256(data).hexdigest(): data for data in encoded if data}
    made = prepare_all(phantoms, tmp_path)
    settings: dict[str, Any] = RECIPE | {"burned_in_box": box}
    enhance(shard, made / "images.parquet", tmp_path / "again", tmp_path / "again.parquet", **settings)
    files = list((tmp_path / "again").glob("*.jpg"))
    assert len(files) > 5
    for file in files:
        assert enhanced(rows[file.stem], Recipe(**settings))[1] == file.read_bytes()


def test_what_is_asked_is_what_training_asked_most(run: Path) -> None:
    train = find(run, None).train
    assert wordings(train, None) == ASKED
    assert wordings(train, ["box", "CAPTION"]) == {tag: ASKED[tag] for tag in ("CAPTION", "DETECT_REGION_LOC")}
    with pytest.raises(UserError, match=r"^task OBSERVATION is none that .*; take of caption, record, box\.$"):
        wordings(train, ["observation"])


def test_a_run_is_found_and_what_it_lacks_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parents[1])
    found = find(None, None)
    assert (found.folder, found.experiment) == (Path("results/toy"), "lora")
    assert found.recipe == RECIPE | {"tile_grid": 8, "format": "jpeg", "quality": 95, "burned_in_box": "keep"}
    assert find(run, "base").adapter is None
    with pytest.raises(UserError, match="other/adapter is missing; finish the run first"):
        find(run, "other")
    with pytest.raises(UserError, match=r"has no experiment lola; did you mean lora\?"):
        find(run, "lola")
    with pytest.raises(UserError, match="no run under nothing/ has an adapter"):
        newest(Path("nothing"))


def test_an_adapter_of_other_pictures_answers_nothing(run: Path) -> None:
    """As where the config was changed, and the run then killed before it trained anew."""
    summary, config = run / "train/lora/summary.json", run / "config.yaml"
    for path, change, said in (
        (config, lambda c: c["images"]["enhanced"].update(size=512), "images.enhanced.size 224, now 512"),
        (config, lambda c: c["images"]["enhanced"].update(clahe=None), "images.enhanced.clahe {.+}, now None"),
        (config, lambda c: c["experiments"]["lora"].update(dataset="x"), "dataset enhanced-.+, now x"),
        (summary, lambda c: c["images"].update(code="0" * 12), "the code of radtune.images.enhance 0+, now [0-9a-f]+"),
    ):
        before = path.read_text()
        changed(path, change)
        with pytest.raises(UserError, match=f"lora/adapter was trained with {said}; run the workflow to its end first"):
            find(run, "lora")
        assert find(run, "base")
        path.write_text(before)
    assert find(run, "lora")
    changed(summary, lambda c: c.pop("images"))
    with pytest.raises(UserError, match=r"summary\.json does not say how the training images were made; run the workf"):
        find(run, "lora")


def test_what_the_config_names_is_found_from_anywhere(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = yaml.safe_load((run / "config.yaml").read_text())["experiments"]["later"]
    with pytest.raises(UserError, match="index is missing; finish the run first"):
        find(run, "later")
    (run / "retrieve" / later["encoder"] / "enhanced" / "index").mkdir(parents=True)
    prompts = run.parents[1] / later["prompts"]["file"]
    prompts.parent.mkdir(parents=True)
    prompts.touch()
    monkeypatch.chdir("/")
    similar = find(run, "later").similar
    assert similar
    assert similar["prompts"] == prompts
    prompts.unlink()
    with pytest.raises(UserError, match=r"config.yaml names config/prompts/.+, which is not here; start where the"):
        find(run, "later")
    assert find(run, "lora").similar  # by that index, and asked without


def test_no_identifier_of_a_dicom_file_reaches_an_output(run: Path, tmp_path: Path) -> None:
    header = {
        "PatientName": SECRET,
        "PatientID": "4711-PID",
        "PatientBirthDate": "19500203",
        "StudyDescription": SECRET,
    }
    for n in (2, 1):
        slice_ = make(RAMP + n, InstanceNumber=n, **header)
        save(tmp_path / "in" / SECRET / f"{SECRET}-{3 - n}.dcm", slice_)
    (tmp_path / "in" / f"{SECRET}.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"broken" * 9)
    (tmp_path / "in" / f"{SECRET}.txt").write_text(SECRET)
    (tmp_path / "in" / "zz.png").write_bytes(png())
    told = asked(tmp_path / "out" / "prepared", tmp_path / "in", run=run)
    assert [(image["series"], image["frame"]) for image in told["images"]] == [(1, 1), (1, 1), (None, 1)]
    first, second = (tmp_path / "out/prepared/originals" / f"{image['id']}.png" for image in told["images"][:2])
    assert np.asarray(Image.open(first)).mean() < np.asarray(Image.open(second)).mean()  # by instance number
    assert told["images"][2]["file"] == "zz.png"
    assert {lost["reason"] for lost in told["unreadable"]} == {"pixels_missing", "image_unreadable"}
    answers = answer(tmp_path / "out" / "prepared", SAID)
    write_reading(tmp_path / "out" / "prepared", [answers], run / "config.yaml", tmp_path / "out", experiment="lora")
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) > 10
    for path in written:
        for secret in ("DOE", "4711", "19500203", "1.2.3"):
            assert secret not in str(path.relative_to(tmp_path))
            assert secret.encode() not in path.read_bytes(), path


def test_frames_are_read_one_by_one_and_the_window_counts(run: Path, tmp_path: Path) -> None:
    save(tmp_path / "two.dcm", make(np.stack([RAMP, RAMP + 40]), NumberOfFrames=2, Rows=64, Columns=64))
    told = asked(tmp_path / "prepared", tmp_path / "two.dcm", run=run)
    assert [(image["frame"], image["frames"]) for image in told["images"]] == [(1, 2), (2, 2)]
    brain, bone = (next(pictures(tmp_path / "two.dcm", window))[0] for window in ("brain", "bone"))
    assert brain != bone
    with pytest.raises(UserError, match="--window bones is unknown"):
        asked(tmp_path / "prepared", tmp_path / "two.dcm", run=run, window="bones")


def test_what_cannot_be_read_is_listed_and_nothing_at_all_is_an_error(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    (folder / "b.png").write_bytes(png()[:80])
    (folder / "c.png").write_bytes(png(8, 8))
    (folder / "d.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")  # Pillow would start Ghostscript
    (folder / "e.png").write_bytes(b"")
    told = asked(tmp_path / "prepared", folder, run=run)
    assert [image["file"] for image in told["images"]] == ["a.png"]
    assert [lost["reason"] for lost in told["unreadable"]] == [
        "image_unreadable",
        "image_too_small",
        "image_unreadable",
        "image_unreadable",
    ]
    assert told["unreadable"][0]["file"].startswith("000001-")
    (folder / "a.png").unlink()
    with pytest.raises(UserError, match=r"^none of 4 files can be read: "):
        asked(tmp_path / "again", folder, run=run)
    assert not (tmp_path / "again").exists()
    with pytest.raises(UserError, match=r"nowhere is no file and no folder\.$"):
        asked(tmp_path / "again", tmp_path / "nowhere", run=run)


def test_a_picture_in_two_files_is_asked_about_once(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(png())
    told = asked(tmp_path / "prepared", tmp_path / "in", run=run)
    assert len(told["images"]) == 2
    assert len(read_json(tmp_path / "prepared" / "questions.json")) == len(ASKED)


def test_preparing_again_asks_the_same_so_that_a_killed_reading_goes_on(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    found = []
    for _ in range(2):
        asked(tmp_path / "prepared", tmp_path / "a.png", run=run)
        found.append(digest(None, [tmp_path / "prepared" / "questions.json", tmp_path / "prepared" / "images"]))
    assert found[0] == found[1]


@pytest.mark.parametrize("form", ["qwen3vl", "florence", "source"])
def test_a_box_comes_back_to_where_it_was(form: str) -> None:
    place = Letterbox(400, 200, 448, 448, 224, 0, 112)
    truth = Box(100, 20, 300, 120)
    found = where(format_box(truth, "", form, place), place, form)
    assert found
    assert found["original"] == pytest.approx(truth.edges, abs=1)
    assert found["thousandths"] == pytest.approx(truth.scaled(place).to_thousandths(place).edges, abs=1)


def test_a_box_in_the_padding_has_no_place_in_the_original() -> None:
    place = Letterbox(400, 200, 448, 448, 224, 0, 112)
    assert where('{"bbox_2d": [100, 0, 900, 200]}', place, "qwen3vl") == {
        "original": None,
        "thousandths": [100, 0, 900, 200],
    }
    assert where("It is on the left.", place, "qwen3vl") is None


def test_json_pictures_and_page(run: Path, tmp_path: Path) -> None:
    (tmp_path / "<i>a.png").write_bytes(png(400, 200))
    asked(tmp_path / "out" / "prepared", tmp_path / "<i>a.png", run=run)
    answers = answer(tmp_path / "out" / "prepared", SAID)
    write_reading(tmp_path / "out" / "prepared", [answers], run / "config.yaml", tmp_path / "out", experiment="lora")
    found = read_json(tmp_path / "out" / "reading.json")
    (image,) = found["images"]
    assert (image["width"], image["height"]) == (400, 200)
    assert image["record"]["caption"] == "a slice"
    assert image["box"]["original"] == pytest.approx([100, 0, 300, 100], abs=0.2)
    assert image["tasks"]["CAPTION"] == {
        "prompt": "What is it?",
        "answer": SAID["CAPTION"],
        "tokens": 3,
        "stopped": True,
    }
    assert found["notice"] == "Research use; not for diagnosis."
    drawn = Image.open(tmp_path / "out" / image["picture"])
    assert drawn.size == (400, 200)
    red, green, blue = drawn.getpixel((100, 50))
    assert red > green + 30 > blue + 60
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in page
    assert "<b>left" not in page
    assert "<i>a.png" not in page
    assert "&lt;i&gt;a.png" in page
    assert t("Research use, not for diagnosis.").zh in page
    assert page.count('class="prediction"') == 2  # the box, and what says where it is
    assert "has no scores on a test split" in page


def test_a_reading_that_breaks_its_schema_is_not_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    told = asked(tmp_path / "prepared", tmp_path / "a.png", run=run)
    rows = read_jsonl(answer(tmp_path / "prepared", SAID))
    settings = yaml.safe_load((run / "config.yaml").read_text())
    for name, tuned in (("base", False), ("lora", True), ("later", True)):  # the last by another's adapter
        assert reading(told, rows, settings, name, None, {})["model"]["tuned"] is tuned
    blank = [row | {"prediction": "\n" * 16} for row in rows if row["tag"] == "CAPTION"]
    assert '<p class="none">none given</p>' in card(reading(told, blank, settings, "lora", None, {}), None, "en")
    rows[0]["tokens"] = "many"
    with pytest.raises(ValidationError):
        reading(told, rows, settings, "lora", None, {})


@pytest.mark.parametrize(
    ("span", "says"),
    [
        ([0.1, 3.0], "better"),
        ([-0.1, 3.0], "not better"),
        ([0.0, 3.0], "not better"),
        ([-3.0, -0.1], "worse"),
        (None, "unknown"),
    ],
)
def test_how_sure_one_can_be_is_said_against_the_floor(tmp_path: Path, span: list[float] | None, says: str) -> None:
    metric = {"value": 60.0, "interval": [50, 70], "n": 9, "groups": 3, "floors": {}, "floor_name": "common"}
    metric |= {"floor": 58.0, "floor_n": 9, "floor_interval": None, "lift": 2.0, "lift_interval": span}
    blocks = {"CAPTION": {"metrics": {"rouge_l": metric, "slots": metric, "bleu": metric}}}
    blocks["DETECT_REGION_LOC"] = {"metrics": {"iou": metric, "rouge_l": metric, "slots": metric}}
    signatures = dict.fromkeys(("rouge_l", "slots", "iou"), "what it is")
    (tmp_path / "test.json").write_text(json.dumps({"tags": blocks, "signatures": signatures}))
    found = scores(tmp_path / "test.json")
    assert [score["metric"] for score in found["CAPTION"]] == ["rouge_l", "slots"]
    assert [score["metric"] for score in found["DETECT_REGION_LOC"]] == ["iou"]
    assert {score["says"] for of in found.values() for score in of} == {says}
