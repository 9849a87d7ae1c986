"""The page that reads what is dropped on it, in Debian's chromium: from drop to answer by a tiny model, a real one."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from radtune.config import resolve
from radtune.evaluate.score import evaluate
from radtune.files import write_json, write_jsonl
from radtune.read.page import example
from radtune.read.serve import LARGEST
from radtune.train.tiny import build

expect.set_options(timeout=60_000)
CHROMIUM = Path("/usr/bin/chromium")
ASKED = {"CAPTION": "What does it show?", "JSON_RECORD": "Write a record.", "DETECT_REGION_LOC": "Where is it?"}
DROP = """(target, [name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  target.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves of its untuned model: random weights, whose long answers say nothing, and their scores."""
    folder = tmp_path_factory.mktemp("run") / "results" / "toy"
    raw = {"model": {"source": "tiny"}, "generation": {"max_new_tokens": 200}, "limits": {"gpu_memory_gib": None}}
    config = resolve(raw | {"results": "results/toy", "images": {"enhanced": {"size": 96}}})
    base = config["experiments"]["base"]
    records = [
        {"id": "0", "tag": tag, "messages": [{"role": "user", "content": f"<image>{prompt}"}, {"role": "assistant"}]}
        for tag, prompt in ASKED.items()
    ]
    write_json(folder / "sharegpt" / base["dataset"] / "train.json", records)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    corpus = folder / "corpus.json"
    texts = [{"messages": [{"role": "user", "content": prompt}]} for prompt in ASKED.values()]
    write_json(corpus, texts)
    build(folder / "model" / base["model_name"], [corpus])
    rows = [
        {"id": f"{n}{tag}", "tag": tag, "group": str(n), "prediction": "a left area", "reference": "a right area"}
        for tag in ASKED
        for n in range(4)
    ]
    write_jsonl(folder / "predict" / "base" / "test.jsonl", rows)
    scores = folder / "evaluate" / "base"
    evaluate(folder / "predict" / "base" / "test.jsonl", scores / "test.json", scores / "test.samples.parquet")
    return folder


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's temporary files go."""
    return tmp_path_factory.mktemp("disk")


@pytest.fixture(scope="module")
def server(run: Path, disk: Path) -> Iterator[str]:
    command = [sys.executable, "-c", "from radtune.cli import main; main()", "serve", "--experiment", "base"]
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
    said = process.communicate(timeout=30)[0]
    assert "image" not in said.replace("SecondaryCaptureImage", ""), said
    assert "Traceback" not in said, said
    assert list(disk.iterdir()) == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = [] if os.geteuid() else ["--no-sandbox"]
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser, server: str) -> Iterator[Visit]:
    """Opens the page as a visitor of its own; nothing may go wrong in it or leave this machine."""
    wrong: list[str] = []
    contexts = []

    def visit(query: str = "", **settings: Any) -> Page:
        context = browser.new_context(**({"locale": "en-US", "viewport": {"width": 1280, "height": 900}} | settings))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
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
    """Files that hold something of an image or an answer."""
    kept = (path for path in disk.rglob("*") if path.is_file())
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
    assert page.locator("#result .frame img").evaluate("(image) => image.naturalWidth") > 100
    assert "on the test split" in page.locator("#result .sure").inner_text()
    assert uploads(disk) == []
    assert page.get_by_text("Research use, not for diagnosis.").is_visible()


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
