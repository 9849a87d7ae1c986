"""The page that reads what is dropped on it, in Debian's chromium: from drop to answer by a tiny model, a real one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from playwright.sync_api import Browser, Page, expect
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from radtune.config import resolve
from radtune.evaluate.score import evaluate
from radtune.files import read_json, write_json, write_jsonl
from radtune.frames import Letterbox
from radtune.images.enhance import Recipe
from radtune.predict.embed_images import embed_images
from radtune.predict.generate import encode, load
from radtune.predict.retrieve import build_index
from radtune.read.cases import similar_cases
from radtune.read.page import EXAMPLES, example
from radtune.read.prepare import enhanced, prepare
from radtune.read.run import Run, find
from radtune.read.serve import ABANDONED, LARGEST, SWEEP
from radtune.read.write import where
from radtune.train.tiny import build

expect.set_options(timeout=180_000)
ASKED = {"CAPTION": "What does it show?", "JSON_RECORD": "Write a record.", "DETECT_REGION_LOC": "Where is it?"}
BOX = [300, 350, 520, 610]  # thousandths of the picture that the model sees
RECORD = {
    "caption": "Axial head CT with a hyperdense area in the left hemisphere.",
    "region of interest": "Left, upper-middle part of the image.",
    "observation": "Well defined, about 4 % of the image.",
    "notes": "",
    "bloc": {"bbox_2d": BOX, "label": "hyperdense area"},
}
ANSWERS = {
    "CAPTION": "Axial head CT with a hyperdense area in the left hemisphere, well defined, that takes about 4 % of the"
    " image. The ventricles are of a usual width and the midline stands where it should. Nothing else is bright or dark"
    " beyond what a level like this one shows, and the bone is whole.",
    "JSON_RECORD": json.dumps(RECORD),
    "DETECT_REGION_LOC": json.dumps([{"bbox_2d": BOX, "label": "hyperdense area"}]),
}
CASE = "Axial head CT with a hypodense area in the right hemisphere, of patient"
DROP = """(target, [name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  target.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves of an experiment that is asked with similar cases: a model that has learned ANSWERS by heart,
    an index of the examples and more of their kind, each a patient's, and scores.
    """
    torch.set_num_threads(1)  # more would spin against whatever else runs here
    folder = tmp_path_factory.mktemp("run") / "results" / "toy"
    raw = {"model": {"source": "tiny"}, "generation": {"max_new_tokens": 200}, "limits": {"gpu_memory_gib": None}}
    raw |= {
        "results": "results/toy",
        "images": {"enhanced": {"size": 96, "clahe": None}},
        "prompts": {"language": "en"},
    }
    asked = {"retrieval": {"used_in": "prediction", "k": 2}, "generation": {"valid_records": True}}
    config = resolve(raw | {"experiments": {"cases": asked | {"training": None}}})
    cases = config["experiments"]["cases"]
    media, samples = folder / "images" / "enhanced" / "a", folder / "data" / "samples.parquet"
    media.mkdir(parents=True)
    samples.parent.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    records, rows = [], []
    for n in range(2 * len(EXAMPLES)):
        data = example(n % len(EXAMPLES), seed=7 + n // len(EXAMPLES))
        sha256 = hashlib.sha256(data).hexdigest()
        (media / f"{sha256}.jpg").write_bytes(enhanced(data, Recipe(96))[1])
        rows.append({"image_sha256": sha256, "group": str(n), "split": "train", "status": "kept"})
        for tag, prompt in ASKED.items():
            turns = [("user", f"<image>{prompt}"), ("assistant", f"{CASE} {n}")]
            messages = [{"role": role, "content": content} for role, content in turns]
            records.append({"id": str(n), "tag": tag, "messages": messages, "images": [f"enhanced/a/{sha256}.jpg"]})
    pq.write_table(pa.Table.from_pylist(rows), samples)
    write_json(train := folder / "sharegpt" / cases["plain"] / "train.json", records)
    write_json(folder / "corpus.json", [ANSWERS])
    build(model := folder / "model" / cases["model_name"], [train, folder / "corpus.json"])
    index = folder / "retrieve" / cases["encoder"] / "enhanced"
    embed_images(model, media, folder / "images", index / "vectors" / "a.parquet", gpus=0, **cases["pixels"])
    build_index([index / "vectors" / "a.parquet"], samples, index / "index", encoder=cases["encoder"])
    learn(find(folder, "cases"), tmp_path_factory.mktemp("learned"))
    rows = [
        {"id": f"{n}{tag}", "tag": tag, "group": str(n), "prediction": "a left area", "reference": "a right area"}
        for tag in ASKED
        for n in range(4)
    ]
    write_jsonl(folder / "predict" / "cases" / "test.jsonl", rows)
    scores = folder / "evaluate" / "cases"
    evaluate(folder / "predict" / "cases" / "test.jsonl", scores / "test.json", scores / "test.samples.parquet")
    return folder


def learn(run: Run, folder: Path) -> None:
    """Teach the run's model ANSWERS, asked as it will be; not its eyes, by which the index was made."""
    assert run.similar
    (folder / "slice.jpg").write_bytes(example(0))
    prepare(folder / "slice.jpg", out=folder / "prepared", train=run.train, **run.recipe)
    similar_cases(folder / "prepared", train=run.train, out=folder / "similar", gpus=0, **run.similar)
    model, processor = load(run.model, None, "cpu", "dynamic")
    model.model.visual.requires_grad_(False)
    samples = []
    for record in read_json(folder / "similar" / "questions.json"):
        limits = {key: run.generation[key] for key in ("image_max_pixels", "image_min_pixels")}
        sample = encode(processor, record, folder / "prepared", **limits)
        said = processor.tokenizer(f"{ANSWERS[record['tag']]}<|im_end|>", return_tensors="pt")["input_ids"][0]
        ids = torch.cat([sample["input_ids"], said])
        labels = torch.where(torch.arange(len(ids)) < len(sample["input_ids"]), -100, ids)
        whole = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None], "labels": labels[None]}
        samples.append(sample | whole)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=3e-3)
    for _ in range(40):
        for sample in samples:
            loss = model(**sample).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert loss < 0.1
    model.save_pretrained(run.model)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's temporary files go."""
    return tmp_path_factory.mktemp("disk")


@pytest.fixture(scope="module")
def server(run: Path, disk: Path) -> Iterator[str]:
    command = [sys.executable, "-c", "from radtune.cli import main; main()", "serve", "--experiment", "cases"]
    process = subprocess.Popen(
        [*command, "--run", str(run), "--port", "0"],
        env={**os.environ, "TMPDIR": str(disk), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    line = process.stdout.readline()
    while "reads at" not in line:
        assert process.poll() is None, line
        line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found
    yield found[0]
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[0]
    assert "image" not in said.replace("SecondaryCaptureImage", ""), said
    assert "Traceback" not in said, said
    assert list(disk.iterdir()) == []


@pytest.fixture
def visit(browser: Browser, server: str) -> Iterator[Visit]:
    """Opens the page as a visitor of its own; nothing may go wrong in it or leave this machine."""
    wrong: list[str] = []
    contexts = []

    def visit(query: str = "", **settings: Any) -> Page:
        context = browser.new_context(**({"locale": "en-US", "viewport": {"width": 1280, "height": 900}} | settings))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(180_000)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("request", lambda r: r.url.startswith(("data:", "blob:", server)) or wrong.append(r.url))
        page.goto(f"{server}/{query}")
        expect(page.locator("#read")).to_be_visible()
        expect(page.locator("h1")).to_be_visible()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong


def drop(page: Page, name: str, data: bytes) -> None:
    page.locator("#upload button").first.evaluate(DROP, [name, base64.b64encode(data).decode()])


def uploads(disk: Path) -> list[Path]:
    """Files that hold something of an image or an answer; Gradio makes empty ones."""
    kept = (path for path in disk.rglob("*") if path.is_file() and path.stat().st_size)
    return [path for path in kept if "_remote_module" not in path.name]


def dicom(tmp_path: Path) -> bytes:
    """Two frames of a CT of somebody."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID, header.file_meta.MediaStorageSOPInstanceUID = (
        CTImageStorage,
        generate_uid(),
    )
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, header.file_meta.MediaStorageSOPInstanceUID
    header.PatientName, header.Modality, header.PhotometricInterpretation = "DOE^JANE", "CT", "MONOCHROME2"
    header.Rows = header.Columns = 64
    header.NumberOfFrames, header.SamplesPerPixel = 2, 1
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation, header.RescaleSlope, header.RescaleIntercept = 15, 1, 1, 0
    header.PixelData = np.arange(2 * 64 * 64, dtype=np.int16).tobytes()
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    return (tmp_path / "a.dcm").read_bytes()


def test_from_drop_to_answer_and_nothing_is_kept(visit: Visit, disk: Path) -> None:
    page = visit()
    expect(page.get_by_text("Research use, not for diagnosis.")).to_be_in_viewport()
    drop(page, "slice.jpg", example(0))
    expect(page.locator("#preview img")).to_be_visible()
    assert uploads(disk) == []
    page.get_by_label("Brief description").uncheck()
    page.locator("#read").click()
    expect(page.locator("#result .card")).to_be_visible()
    assert page.locator("#result .card h3").all_inner_texts()[:1] == ["Record"]
    assert page.locator("#result .picture img").evaluate("(image) => image.naturalWidth") > 100
    assert "on the test split" in page.locator("#result .sure").inner_text()
    assert uploads(disk) == []
    assert page.get_by_text("Research use, not for diagnosis.").is_visible()


def test_box_record_and_similar_cases_are_over_and_beside_the_image(visit: Visit) -> None:
    page = visit()
    drop(page, "slice.jpg", example(0))
    expect(page.locator("#preview img")).to_be_visible()
    page.locator("#read").click()
    result = page.locator("#result")
    expect(result.locator(".card")).to_be_visible()
    place = Letterbox(**enhanced(example(0), Recipe(96))[2])
    found = where(ANSWERS["DETECT_REGION_LOC"], place, "qwen3vl")
    assert found
    left, top, right, bottom = found["original"] or []
    rect, frame = (result.locator(f".frame {part}").first.bounding_box() for part in ("rect", "img"))
    assert rect
    assert frame
    drawn = [(rect["x"] - frame["x"]) / frame["width"], (rect["y"] - frame["y"]) / frame["height"]]
    drawn += [rect["width"] / frame["width"], rect["height"] / frame["height"]]
    expected = [left / place.width, top / place.height, (right - left) / place.width, (bottom - top) / place.height]
    assert drawn == pytest.approx(expected, abs=0.02)
    expect(result.locator(".key")).to_contain_text(f"x {left} to {right}")
    keys, values = (result.locator(f".record {cell}").all_inner_texts() for cell in ("th", "td"))
    assert keys == list(RECORD)
    assert [values[0], values[3], json.loads(values[4])] == [RECORD["caption"], "none given", RECORD["bloc"]]
    assert ANSWERS["CAPTION"] in result.inner_text()
    page.get_by_text("Similar training cases").click()
    cases = result.locator(".similar figure")
    assert cases.count() == 2
    assert cases.locator("img").evaluate_all("(all) => all.every((image) => image.naturalWidth > 0)")
    said = cases.locator(".answer").all_inner_texts()
    assert [text.startswith(CASE) for text in said] == [True, True]
    assert f"{CASE} 0" not in said  # the image itself, which is in train


def test_an_upload_that_nobody_reads_is_gone_and_no_other_visitors(visit: Visit, server: str, disk: Path) -> None:
    parts = ["--x", 'Content-Disposition: form-data; name="files"; filename="slice.jpg"', "", ""]
    body = "\r\n".join(parts).encode() + example(1) + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    with urlopen(Request(f"{server}/gradio_api/upload", body, headers)) as response:
        left = Path(json.load(response)[0])
    page = visit()
    drop(page, "slice.jpg", example(1))  # another visitor's, of the same name and content
    expect(page.locator("#preview img")).to_be_visible()
    assert uploads(disk) == [left]
    os.utime(left.parent, (0, time.time() - ABANDONED - 1))
    deadline = time.monotonic() + 3 * SWEEP
    while left.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert uploads(disk) == []
    assert not left.parent.exists()


def test_examples_and_chinese(visit: Visit, disk: Path) -> None:
    page = visit(locale="zh-CN")
    expect(page.get_by_text("仅供研究，不得用于诊断。")).to_be_visible()
    page.get_by_role("button", name="示例 2").click()
    expect(page.locator("#preview img")).to_be_visible()
    page.locator("#read").click()
    expect(page.locator("#result .card")).to_contain_text("病灶位置")
    page.get_by_label("English").check()
    expect(page.locator("#result .card")).to_contain_text("Place of the lesion")
    expect(page.locator("#read")).to_have_text("Read")
    assert visit("?lang=zh").locator("#read").inner_text() == "判读"
    assert uploads(disk) == []


def test_dicom_shows_its_frames_and_windows_and_no_name(visit: Visit, disk: Path, tmp_path: Path) -> None:
    page = visit()
    assert not page.get_by_label("Window of DICOM").is_visible()
    drop(page, "DOE^JANE", dicom(tmp_path))
    expect(page.get_by_label("Window of DICOM")).to_be_visible()
    page.get_by_label("number input for Frame").fill("2")
    page.keyboard.press("Tab")
    page.locator("#read").click()
    expect(page.locator("#result .meta")).to_contain_text("frame 2 of 2")
    assert "DOE" not in page.content()
    assert uploads(disk) == []


def test_what_is_no_image_or_too_large_is_refused(visit: Visit, disk: Path, tmp_path: Path) -> None:
    page = visit()
    drop(page, "notes.jpg", b"no picture")
    expect(page.get_by_role("alert").first).to_have_text("The image cannot be decoded in full.")
    page.locator("#read").click()
    expect(page.locator("#result")).to_contain_text("Choose an image and one task at least.")
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(LARGEST + 1)
    page.locator("#upload input[type=file]").set_input_files(tmp_path / "large.jpg")
    expect(page.get_by_text(re.compile("exceeds the maximum|File is too large", re.IGNORECASE)).first).to_be_visible()
    assert uploads(disk) == []


def test_a_second_visitor_waits_in_the_queue(visit: Visit) -> None:
    first, second = visit(), visit()
    for page in (first, second):
        page.get_by_role("button", name="Example 1").click()
        expect(page.locator("#preview img")).to_be_visible()
    first.locator("#read").click()
    second.locator("#read").click()
    expect(second.locator("#result")).to_contain_text(re.compile(r"queue: \d/\d"))
    expect(first.locator("#result .card")).to_be_visible()
    assert not second.locator("#result .card").is_visible()
    expect(second.locator("#result .card")).to_be_visible()


def test_a_request_that_fails_is_one_sentence_and_leaves_nothing(visit: Visit, run: Path, disk: Path) -> None:
    page = visit()
    drop(page, "slice.jpg", example(0))
    expect(page.locator("#preview img")).to_be_visible()
    (train,) = run.glob("sharegpt/*/train.json")
    hidden = train.rename(train.with_name("hidden"))
    page.locator("#read").click()
    expect(page.locator("#result")).to_have_text("This image could not be read (FileNotFoundError); others can.")
    hidden.rename(train)
    assert uploads(disk) == []
    page.locator("#read").click()
    expect(page.locator("#result .card")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_scrolls_sideways(visit: Visit, scheme: str) -> None:
    page = visit(viewport={"width": 375, "height": 800}, color_scheme=scheme)
    page.get_by_role("button", name="Example 1").click()
    expect(page.locator("#preview img")).to_be_visible()
    page.locator("#read").click()
    expect(page.locator("#result .card")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    page.locator("#result .sure").scroll_into_view_if_needed()
    expect(page.locator("h1")).not_to_be_in_viewport()
    expect(page.get_by_text("Research use, not for diagnosis.")).to_be_in_viewport(ratio=1)
