"""The page of `radtune read` in Debian's chromium, with hostile text in an answer."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from radtune.report.reading import page as write_page

SCORE = {"metric": "rouge_l", "value": 60.0, "interval": [50, 70], "floor_name": "common", "floor": 58.0}
SCORE |= {"lift": 2.0, "lift_interval": [-1, 5], "says": "not better"}
ANSWER = "<script>document.title = 'taken'</script> a hyperdense area \u202e of 3 %"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reading")
    Image.new("L", (300, 200), 90).save(folder / "0a.png")
    told = {"prompt": "What is it?", "tokens": 9, "stopped": True}
    tasks = {"CAPTION": told | {"answer": ANSWER}, "JSON_RECORD": told | {"answer": "{}", "stopped": False}}
    image = {"id": "0a", "file": "a/very-long-name-" + 30 * "of-a-file", "series": 2, "frame": 1, "frames": 3}
    image |= {"width": 300, "height": 200, "tasks": tasks | {"DETECT_REGION_LOC": told | {"answer": "[]"}}}
    image |= {"record": {"caption": ANSWER}, "box": {"original": [10, 20, 80, 90], "thousandths": [1, 2, 3, 4]}}
    image["similar"] = [{"image": "0a.png", "similarity": 0.9, "answers": {"CAPTION": ANSWER}}]
    lost = {"file": "000001-ab", "reason": "image_unreadable", "sentence": "The image cannot be decoded in full."}
    reading = {"run": "demo", "experiment": "lora", "model": {"name": "built here", "revision": None, "tuned": True}}
    reading |= {"window": "header", "versions": {"radtune": "0"}, "scores": {"CAPTION": [SCORE]}}
    (folder / "index.html").write_text(write_page(reading | {"images": [image], "unreadable": [lost]}, folder, folder))
    return (folder / "index.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_whole_in_both_languages_and_on_a_phone(browser: Browser, address: str, scheme: str) -> None:
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 375, "height": 800}, color_scheme=scheme, locale="en-US")
    page: Page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("data:", address)) or wrong.append(request.url))
    page.goto(address)
    notice = page.get_by_text("Research use, not for diagnosis.")
    expect(notice).to_be_in_viewport()
    page.locator("dl").scroll_into_view_if_needed()
    expect(page.locator("h1")).not_to_be_in_viewport()
    expect(notice).to_be_in_viewport(ratio=1)
    assert page.title() != "taken"
    assert "<script>" in page.locator(".answer").first.inner_text()
    assert "⟨U+202E⟩" in page.locator(".answer").first.inner_text()
    page.get_by_text("Similar training cases").click()
    assert page.locator("img").evaluate_all("(all) => all.every((image) => image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    box, frame = (page.locator(f".frame {part}").first.bounding_box() for part in ("rect", "svg"))
    assert box
    assert frame
    assert (box["x"] - frame["x"]) / frame["width"] == pytest.approx(10 / 300, abs=0.02)
    page.get_by_role("button", name="中文").click()
    shown = page.locator("h1, h2, h3, th, dt, .note, .lead, .key, summary, figcaption").all_inner_texts()
    names = "ROUGE-L|caption|radtune|000001-ab"
    assert [text for text in shown if not re.search("[\u4e00-\u9fff]", text) and not re.fullmatch(names, text)] == []
    context.close()
    assert wrong == []
