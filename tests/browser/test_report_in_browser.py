"""The report as a reader has it: in Debian's chromium, from disk, with hostile text in its data."""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from report_page import write_inputs, write_page

A4 = 688  # px, the width of its text at 96 px an inch with the page's margins of 14 mm
VISIBLE_TEXTS = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    const unseen = !element.checkVisibility() || element.closest('script, style, title, desc');
    if (text && !unseen) found.push([element, text]);
  }
  return found;
}"""
CONTRASTS = f"""() => {{
  const canvas = document.createElement('canvas').getContext('2d', {{willReadFrequently: true}});
  const rgba = (colour) => {{
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  }};
  const luminance = (colour) => [.2126, .7152, .0722].reduce((sum, weight, i) => {{
    const c = colour[i] / 255;
    return sum + weight * (c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  }}, 0);
  const behind = (element) => {{
    const colour = rgba(getComputedStyle(element).backgroundColor);
    return colour[3] === 255 || !element.parentElement ? colour : behind(element.parentElement);
  }};
  return ({VISIBLE_TEXTS})().map(([element, text]) => {{
    const style = getComputedStyle(element);
    const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [high, low] = [luminance(ink), luminance(behind(element))].sort((a, b) => b - a);
    return [(high + .05) / (low + .05), text];
  }});
}}"""
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("results")
    write_inputs(folder)
    return write_page(folder).as_uri()


@pytest.fixture
def visit(browser: Browser, report: str) -> Iterator[Open]:
    """Opens the report; at the end, nothing may have gone wrong in it, and nothing may have left it."""
    wrong: list[str] = []
    contexts = []

    def visit(query: str = "", **settings: Any) -> Page:
        context = browser.new_context(
            **({"locale": "en-US", "reduced_motion": "reduce", "viewport": {"width": 1280, "height": 900}} | settings)
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(("data:", report)) or wrong.append(request.url))
        page.goto(report + query)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong


def shown(page: Page) -> Locator:
    return page.locator("article.card:visible")


def count(page: Page) -> int:
    return int(page.locator("#count").inner_text())


def texts(page: Page) -> list[str]:
    return page.evaluate(f"() => ({VISIBLE_TEXTS})().map(([element, text]) => text)")


def overflow(page: Page) -> int:
    """How many pixels the page can be scrolled sideways."""
    return page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_a_policy_stops_any_script_but_the_page_s_own(visit: Open, browser: Browser, report: str) -> None:
    page = visit()
    assert page.locator("#language").is_visible()  # its own has run
    stopped = browser.new_page()
    messages: list[str] = []
    stopped.on("console", lambda message: messages.append(message.text))
    html = page.content().replace("<header>", "<script>document.title = 'taken'</script><header>")
    stopped.set_content(html)
    assert stopped.title() != "taken"
    assert any("script-src" in message for message in messages)
    stopped.close()


def test_filters_leave_the_cards_that_fit(visit: Open) -> None:
    page = visit()
    everything = page.locator("article.card").count()
    assert (count(page), shown(page).count()) == (everything, 12)
    page.get_by_role("button", name="Show all").click()
    assert shown(page).count() == everything
    assert not page.locator("#more").is_visible()
    for label, attribute, choice in (
        ("Task", "tag", "DETECT_REGION_LOC"),
        ("Kind", "kinds", "contradiction"),
        ("Side", "side", "wrong"),
    ):
        page.get_by_role("combobox", name=label).select_option(choice)
        fitting = page.locator(f'article.card[data-{attribute}~="{choice}"]').count()
        assert 0 < fitting < everything
        assert shown(page).count() == count(page) == fitting
        page.get_by_role("combobox", name=label).select_option("")
    page.get_by_role("combobox", name="Side").select_option("wrong")
    assert all("side: wrong or not said" in text for text in shown(page).all_inner_texts())
    page.get_by_role("combobox", name="Task").select_option("DETECT_REGION_LOC")
    assert shown(page).count() == count(page) == 0
    assert page.get_by_text("Nothing found").is_visible()


def test_search_looks_into_ids_and_texts(visit: Open) -> None:
    page = visit()
    search = page.get_by_placeholder("id or words")
    search.fill("I0")  # of the two tasks that one image has
    assert {card.text_content() for card in shown(page).locator(".id").all()} == {"i0"}
    search.fill("hyperdense RIGHT")
    assert 0 < count(page) < page.locator("article.card").count()
    search.fill("<script>")
    assert shown(page).count() == 1
    search.fill("nothing says this")
    assert page.get_by_text("Nothing found").is_visible()
    search.fill("")
    assert count(page) == page.locator("article.card").count()


def test_a_picture_is_enlarged_and_closed_by_keyboard(visit: Open) -> None:
    page = visit()
    card = page.locator('article.card[data-tag="DETECT_REGION_LOC"]').first
    button = card.get_by_role("button", name="Enlarge the picture")
    button.focus()
    assert button.evaluate("(element) => getComputedStyle(element).outlineStyle") != "none"
    small = button.bounding_box()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    large = dialog.locator(".frame").bounding_box()
    assert small
    assert large
    assert large["width"] > 2 * small["width"]
    assert dialog.locator("rect").count() == 2
    dashes = dialog.locator("rect").evaluate_all("(all) => all.map((box) => getComputedStyle(box).strokeDasharray)")
    assert len(set(dashes)) == 2  # told apart without colour
    drawn = Image.open(io.BytesIO(dialog.locator(".frame").screenshot())).convert("L")
    assert drawn.getpixel((20, 20)) == pytest.approx(90, abs=3)  # the picture is grey 90; an empty frame is black
    assert card.locator(".id").inner_text() in dialog.inner_text()
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert button.evaluate("(element) => element === document.activeElement")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Close").click()
    assert dialog.count() == 0


def test_the_keyboard_skips_to_the_content(visit: Open) -> None:
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    box = page.locator(".skip").bounding_box()
    assert box
    assert box["y"] > 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_every_word_is_there_in_chinese_and_back(visit: Open) -> None:
    page = visit()
    english = texts(page)
    page.get_by_role("button", name="中文").click()
    assert page.url.endswith("?lang=zh")
    assert page.evaluate("document.documentElement.lang") == "zh"
    for summary in page.locator("summary").all():
        summary.evaluate("(element) => element.parentElement.open = true")
    page.get_by_role("button", name="全部显示").click()
    page.evaluate("document.querySelectorAll('code, pre, dl, h1, .answer, .prompt').forEach((e) => e.remove())")
    names = (
        r"base|lora|base, lora|tiny|ROUGE-L|sacreBLEU|IoU|English|radtune|CAPTION|DETECT_REGION_LOC|Snakemake [\d.]+"
    )
    data = r"(base|lora) \(30\)|<b>train-0</b>|train-0: 5|⟨U\+.*|&?<i>words|.*alert\(1\).*|\[.*\]|florence|bottom"
    untold = [text for text in texts(page) if re.search("[A-Za-z]{3}", text) and not re.search("[\u4e00-\u9fff]", text)]
    assert [text for text in untold if not re.fullmatch(rf"({names})( − ({names}))?|{data}", text)] == []
    labels = page.locator("[aria-label], [placeholder]").evaluate_all(
        "(all) => all.map((e) => e.getAttribute('aria-label') ?? e.placeholder)"
    )
    assert len(labels) > 20
    assert all(re.search("[\u4e00-\u9fff]", label) for label in labels)
    page.get_by_role("button", name="English").click()
    assert page.url.endswith("?lang=en")
    again = visit("?lang=en", locale="zh-CN")
    assert texts(again) == english


def test_the_language_is_the_address_s_else_the_browser_s(visit: Open) -> None:
    for query, locale, language in (
        ("", "zh-CN", "zh"),
        ("", "de-DE", "en"),
        ("?lang=zh", "en-US", "zh"),
        ("?lang=zh-CN", "en-US", "zh"),
        ("?lang=en", "zh-TW", "en"),
    ):
        page = visit(query, locale=locale)
        assert page.evaluate("document.documentElement.lang") == language
        assert page.locator("#scores h2").inner_text() == {"zh": "得分", "en": "Scores"}[language]
        assert page.evaluate("Object.keys(localStorage).length") == 0


@pytest.mark.parametrize("query", ["?lang=en", "?lang=zh"])
def test_no_page_scrolls_sideways(visit: Open, query: str) -> None:
    for width in (375, 1280):
        page = visit(query, viewport={"width": width, "height": 800})
        page.locator("details").evaluate_all("(all) => all.forEach((element) => element.open = true)")
        assert overflow(page) == 0
        page.get_by_role("button", name=re.compile("Enlarge|放大")).first.click()
        dialog = page.locator("dialog")
        assert dialog.evaluate("(element) => element.scrollWidth - element.clientWidth") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit: Open, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    page.locator("details").evaluate_all("(all) => all.forEach((element) => element.open = true)")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 300
    assert [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(252, 252, 250)") == (scheme == "light")


def test_paper_has_every_card_whole_and_no_controls(visit: Open) -> None:
    page = visit(color_scheme="dark", viewport={"width": A4, "height": 900})
    everything = page.locator("article.card").count()
    page.emulate_media(media="print")
    assert shown(page).count() == everything
    for hidden in ("nav", "#filters", "#language", "#more", ".skip"):
        assert not page.locator(hidden).is_visible()
    assert page.locator("article.card details .answer:visible").count() == everything
    clipped = (
        "(all) => all.filter((e) => e.scrollHeight > e.clientHeight + 1 && getComputedStyle(e).overflowY !== 'visible')"
    )
    assert page.locator(".answer").evaluate_all(clipped) == []
    page.locator("details").evaluate_all("(all) => all.forEach((element) => element.open = true)")
    wide = "(all) => all.filter((table) => table.getBoundingClientRect().right > innerWidth).length"
    assert page.locator("table").evaluate_all(wide) == 0
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink')").strip() == "#1c2024"
    sheets = len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))
    page.locator("article.card").evaluate_all("(all) => all.forEach((card) => card.remove())")
    assert sheets - len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) >= everything // 12


def test_without_javascript_all_cards_show_in_english(visit: Open) -> None:
    page = visit(java_script_enabled=False, locale="zh-CN")
    cards = page.locator("article.card")
    assert cards.count() == shown(page).count() > 12
    for control in ("#filters", "#language", "#more"):
        assert not page.locator(control).is_visible()
    assert page.locator("#scores h2").inner_text() == "Scores"
