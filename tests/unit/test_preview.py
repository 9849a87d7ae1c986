"""The preview: one page that stands alone, shows each split and tag with its box in place, and never changes."""

import io
import json
import random
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_prepare import prepare

from radtune.data.boxes import format_box
from radtune.files import UserError, read_json, write_json
from radtune.frames import Box, Letterbox
from radtune.report import figures, preview
from radtune.report.data_section import exposure
from report_page import plain

HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(1)> \u202egnp.\u2066exe\x00\ud800 end"
LETTERBOX = Letterbox(width=700, height=300, size=448, new_width=448, new_height=192, left=0, top=128)


def checked(folder: Path) -> Path:
    """The files of the split stage that tell what was checked, for a prepared folder."""
    write_json(
        folder / "checks.json",
        {
            "images": {"unique": 24, "with_box": 20, "without_box": 4, "low_confidence": 0},
            "forms": {"DETECT_REGION_LOC": {"florence": 24}},
            "disagreements": {kind: {"checked": 60, "disagree": 1} for kind in ("horizontal", "vertical")},
            "split": {"by": "group", "asked": None, "got": {}, "tolerance": 0.01, "groups": 24, "largest_group": 6},
        },
    )
    kept = pq.read_table(folder / "samples.parquet", filters=[("status", "=", "kept")]).to_pylist()
    disputed = {key: kept[5][key] for key in ("shard", "row", "id", "tag")}
    lines = [
        disputed | {"kind": "horizontal", "text_says": HOSTILE, "pixels_say": "right"},
        disputed | {"kind": "vertical", "text_says": "upper", "pixels_say": "bottom", "shard": "of no kept row"},
    ]
    (folder / "disagreements.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def draw(folder: Path, name: str = "preview.html", **changes: Any) -> str:
    paths = {
        "samples_table": folder / "samples.parquet",
        "quarantine": folder / "quarantine.jsonl",
        "leakage": folder / "leakage.json",
        "checks": folder / "checks.json",
        "disagreements": folder / "disagreements.jsonl",
        "images": folder / "images.parquet",
        "scan": sorted((folder / "scan").glob("*.parquet")),
        "geometry": sorted((folder / "geometry").glob("*.parquet")),
        "shards": folder / "shards",
        "media_dir": folder,
        "out": folder / name,
    }
    arguments: dict[str, Any] = {"sharegpt": folder / "sharegpt"} | paths | changes
    preview.write_preview(**arguments)
    return plain((folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def prepared(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checked(prepare(phantoms, tmp_path_factory.mktemp("preview")))


@pytest.fixture(scope="module")
def page(prepared: Path) -> str:
    return draw(prepared)


class _Page(HTMLParser):
    """The tags of a page, and per sample the boxes drawn over each of its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.samples: list[list[dict[str, tuple[float, ...]]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "article":
            self.samples.append([])
        if tag == "img":
            self.samples[-1].append({})
        if tag == "rect" and found.get("class") in ("pixels", "answer"):
            x, y, width, height = (float(found[key] or "") for key in ("x", "y", "width", "height"))
            self.samples[-1][-1][str(found["class"])] = (x, y, x + width, y + height)


def test_the_page_stands_alone(page: str) -> None:
    for tag, attributes in _Page(page).tags:
        assert tag not in {"script", "link", "iframe", "object", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert (attributes.get("href") or "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "default-src 'none'" in page
    assert not re.search(r"url\((?!#)|@import", page)


def test_every_split_and_tag_is_shown_with_its_prompt_and_answer(page: str, prepared: Path) -> None:
    kept = pq.read_table(prepared / "samples.parquet", filters=[("status", "=", "kept")]).to_pylist()
    pairs = {(row["split"], row["tag"]) for row in kept}
    assert len(_Page(page).samples) == len(pairs) + 1 >= 13  # and one where words and pixels disagree
    assert (
        page.count("<figcaption>before: ") == page.count("<figcaption>after: 224 × 224 L") == len(_Page(page).samples)
    )
    assert "picture not available" not in page
    shown = re.findall(r'<p class="answer"[^>]*>(.*?)</p>', page, re.DOTALL)
    answers = {
        preview.gallery.shorten(entry["messages"][1]["content"]).replace('"', "&#34;").replace("'", "&#39;")
        for split in preview.SPLITS
        for entry in read_json(prepared / "sharegpt" / f"{split}.json")
    }
    assert set(shown) <= answers
    assert f"{len(kept):,} rows</small>" in page


def test_boxes_lie_over_both_pictures_where_pixels_and_answer_have_them(page: str, prepared: Path) -> None:
    """The pixels' box is drawn just outside itself; the answer's, moved with the letterbox, lies within it."""
    rows = pq.read_table(prepared / "samples.parquet").to_pylist()
    middles = {(x1 + x2 + 1, y1 + y2 + 1) for x1, y1, x2, y2 in (row["box"] for row in rows if row["box"])}
    both = 0
    for before, after in _Page(page).samples:
        assert before.keys() == after.keys()
        if "pixels" in before:
            x1, y1, x2, y2 = before["pixels"]
            assert (round(x1 + x2), round(y1 + y2)) in middles
        if {"pixels", "answer"} <= before.keys():
            both += 1
            for picture in (before, after):
                distance = np.subtract(picture["answer"], picture["pixels"]) * (1, 1, -1, -1)
                assert (distance > 0).all(), picture
                assert (distance < 7).all(), picture
    assert both >= 2


@pytest.mark.parametrize(("form", "near"), [("qwen3vl", 0.8), ("florence", 0.8), ("source", 0.5)])
def test_an_answers_box_is_found_back_in_the_original(form: str, near: float) -> None:
    box = (70.0, 30.0, 420.0, 270.0)
    place = LETTERBOX._asdict()
    found = preview.answer_box(format_box(Box(*box), "lesion", form, LETTERBOX), form, place)
    assert found is not None
    assert np.abs(np.subtract(found, box)).max() <= near
    assert preview.to_letterbox(box, place) == pytest.approx(Box(*box).scaled(LETTERBOX).edges)


@pytest.mark.parametrize("answer", ["", "none", "{}", '[{"bbox_2d": null}]', '[{"bbox_2d": [1, 2, 3]}]', "x<loc_1>"])
def test_an_answer_without_a_box_has_none(answer: str) -> None:
    for form in ("qwen3vl", "florence", "source"):
        assert preview.answer_box(answer, form, LETTERBOX._asdict()) is None


def test_the_same_page_again_and_another_with_another_seed(page: str, prepared: Path) -> None:
    assert draw(prepared, "again.html") == page
    assert draw(prepared, "other.html", seed=1) != page


def test_samples_are_spread_over_groups_whatever_the_order_of_rows() -> None:
    rows = [(f"i{i}", tag, split, f"g{i % 9}") for i in range(90) for tag in "AB" for split in ("train", "test")]
    chosen = [rows[i] for i in preview.choose(*map(list, zip(*rows, strict=True)), seed=0)]
    assert [(split, tag) for _, tag, split, _ in chosen] == [(s, t) for s in ("train", "test") for t in "AB"]
    assert len({group for *_, group in chosen}) == 4
    random.Random(1).shuffle(rows)
    assert [rows[i] for i in preview.choose(*map(list, zip(*rows, strict=True)), seed=0)] == chosen


def test_entries_are_read_one_by_one_in_any_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"id": f"{i}", "text": '}, {"a": 高'} for i in range(50)]
    path = tmp_path / "a.json"
    for chunk in (7, 1000):
        monkeypatch.setattr(preview, "CHUNK", chunk)
        for text in (
            json.dumps(entries, ensure_ascii=False, indent=2),
            "[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n]\n",
        ):
            path.write_text(text, encoding="utf-8")
            assert list(preview.read_entries(path)) == entries
    path.write_text(text[:-20], encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json ends within an entry"):
        list(preview.read_entries(path))
    path.write_text("[]\n")
    assert list(preview.read_entries(path)) == []


def test_hostile_text_is_shown_and_does_nothing(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sharegpt"
    for split in preview.SPLITS:
        entries = read_json(prepared / "sharegpt" / f"{split}.json")
        for entry in entries:
            entry["messages"][0]["content"] = entry["messages"][1]["content"] = HOSTILE
            entry["images"] = ["../outside.jpg"]
        folder.mkdir(exist_ok=True)
        (folder / f"{split}.json").write_text(json.dumps(entries))
    page = draw(prepared, "hostile.html", sharegpt=folder)
    assert "&lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "⟨U+202E⟩gnp.⟨U+2066⟩exe⟨U+0000⟩⟨U+D800⟩ end" in page
    assert not set("\u202e\u2066\x00") & set(page)
    assert not [tag for tag, _ in _Page(page).tags if tag == "script"]
    assert page.count("picture not available") == len(_Page(page).samples)  # nothing outside the media folder is read


def test_a_row_whose_words_and_pixels_disagree_is_shown_and_all_are_counted(page: str, prepared: Path) -> None:
    card = page[page.index('id="disputed"') : page.index('id="figures"')]
    row = json.loads((prepared / "disagreements.jsonl").read_text().splitlines()[0])
    assert card.count("<article") == 1
    assert f"horizontal · <code>{row['tag']}</code>" in card
    assert "end</b>, the pixels say <b>right</b>." in card
    assert f'<p class="id">{row["id"]} · group' in card
    assert page.count("1 of 60 checked<small>1.7&nbsp;%<") == 2
    assert "<td>upper</td><td>bottom</td>" in page
    (prepared / "none.jsonl").write_text("")
    agreed = prepared / "agreed.json"
    write_json(agreed, read_json(prepared / "checks.json") | {"disagreements": {"area": {"checked": 9, "disagree": 0}}})
    page = draw(prepared, "agreed.html", checks=agreed, disagreements=prepared / "none.jsonl")
    assert "disputed" not in page
    assert "0 of 9 checked" in page


def test_tables_of_other_samples_are_named(prepared: Path) -> None:
    with pytest.raises(UserError, match=r"No image [0-9a-f]{64} in .*geometry.*; make them from the same samples"):
        draw(prepared, "other.html", geometry=sorted((prepared / "geometry").glob("t*.parquet"))[:1])


def test_a_sample_that_the_dataset_lacks_is_named(prepared: Path, tmp_path: Path) -> None:
    for split in preview.SPLITS:
        (tmp_path / f"{split}.json").write_text("[]")
    with pytest.raises(UserError, match=r"lacks CAPTION of '[0-9a-f-]+', which .*samples\.parquet keeps"):
        draw(prepared, "lacking.html", sharegpt=tmp_path)


def test_an_original_that_pillow_cannot_read_leaves_its_place_empty() -> None:
    assert preview._open(io.BytesIO(b"\x00" * 128 + b"DICM")) is None


def test_the_delivered_split_is_kept_loudly(prepared: Path) -> None:
    leaks = read_json(prepared / "leakage.json")
    path = prepared / "official.json"
    write_json(path, leaks | {"after": leaks["as_delivered"], "by": "official"})
    page = draw(prepared, "official.html", leakage=path)
    counts = leaks["as_delivered"]["images"]
    assert counts["test_in_train"] > 0
    assert f"Train has seen {counts['test_in_train']} of {counts['test']} test images" in page
    assert page.count('class="loud"') == 2  # at the head and in the section


@pytest.mark.parametrize("by", ["group", "official"])
def test_train_that_holds_like_images_is_cautioned_against(prepared: Path, by: str) -> None:
    none = {"train": 80, "validation": 9, "test": 9, "validation_in_train": 0, "test_in_train": 0}
    clean = {"images": none, "groups": none, "like images": none}
    assert exposure({"as_delivered": clean, "after": clean, "by": by})[1] == []
    like = clean | {"like images": none | {"test_in_train": 3}}
    write_json(prepared / "like.json", {"as_delivered": like, "after": like, "by": by})
    page = draw(prepared, "like.html", leakage=prepared / "like.json")
    assert "Train holds near-duplicates of 3 of 9 test images (33.3 %): test scores may reward memory." in page
    assert ("split.largest_group" in page) == (by == "group")


def test_a_share_missed_by_more_than_a_percent_is_cautioned_against(prepared: Path) -> None:
    checks = read_json(prepared / "checks.json")
    asked, got = ({"train": 0.8, "validation": v, "test": 0.2 - v} for v in (0.1, 0.111))
    found = {}
    for by in ("group", "official"):
        write_json(
            prepared / "missed.json", checks | {"split": checks["split"] | {"by": by, "asked": asked, "got": got}}
        )
        found[by] = draw(prepared, "missed.html", checks=prepared / "missed.json")
    assert "The share of validation is 11.1 % of the rows, 10.0 % were asked for" in found["group"]
    assert "The share of test is 8.9 %" in found["group"]
    assert "The share of train" not in found["group"]
    assert "The share of" not in found["official"]


def test_the_charts_of_sizes_modes_and_lengths_stand_on_the_page(page: str, prepared: Path) -> None:
    looks = pq.read_table(sorted((prepared / "scan").glob("*.parquet"))).to_pylist()
    looks = [row for row in looks if not row["reason"]]
    for title, of in (
        ("Image sizes", Counter(f"{row['width']} × {row['height']}" for row in looks)),
        ("Image modes", Counter(row["mode"] for row in looks)),
    ):
        bars = "; ".join(f"{label}: {n}" for label, n in of.most_common(preview.SHOWN))
        assert f"<title>{title}</title><desc>{bars}" in page
        assert f"{len(looks)} images</small>" in page
    entries = [e for split in preview.SPLITS for e in read_json(prepared / "sharegpt" / f"{split}.json")]
    lengths = [len(entry["messages"][1]["content"]) for entry in entries if entry["tag"] == "CAPTION"]
    median = re.search(rf"CAPTION {len(lengths)} values, median ([\d.]+)", page)
    assert median
    assert abs(float(median[1]) - np.median(lengths)) <= 0.5
    assert "<title>Length of the answers</title>" in page


def test_one_of_each_split_and_tag_is_chosen_among_many() -> None:
    n = 30_000
    columns = (
        [f"{i // 3}" for i in range(n)],
        ["A", "B", "C"] * (n // 3),
        ["train"] * n,
        [f"{i // 90}" for i in range(n)],
    )
    columns[2][5] = "test"  # a pair of one row
    chosen = preview.choose(*columns, seed=0)
    assert [(columns[2][i], columns[1][i]) for i in chosen] == [*(("train", tag) for tag in "ABC"), ("test", "C")]
    assert len({columns[3][i] for i in chosen}) == 4
    assert preview.choose(*columns, seed=0) == chosen != preview.choose(*columns, seed=1)


def test_charts_tell_their_figures_in_words_and_escape_labels() -> None:
    svg = figures.bar_chart("Rows", [("<i>A", [1200, 30]), ("B & C", [7, 0])], ["train", "test"])
    assert "<desc>&lt;i&gt;A: train 1,200, test 30; B &amp; C: train 7, test 0</desc>" in svg
    assert "1,200 + 30 = 1,230" in svg
    assert "<i>" not in svg
    svg = figures.spread_chart("Lengths", {"A": np.arange(1, 102), "B": np.array([5])}, "characters")
    assert "A 101 values, median 51, 5th to 95th percentile 6 to 96; B 1 values, median 5, " in svg
    assert "#0000" not in svg


def test_the_heat_map_counts_centres_where_they_lie() -> None:
    centres = np.array([[0.1, 0.9]] * 3 + [[0.999, 0.0]])  # three at the lower left, one at the upper right corner
    svg = figures.heat_map("Centres", centres, "data:image/jpeg;base64,xx")
    assert svg.count("<rect") == 3  # the ground and two cells
    assert '<rect x="8" y="88" width="4" height="4" fill-opacity="0.90"/>' in svg
    assert '<text x="10" y="91.5">75%</text>' in svg
    assert '<text x="90" y="11.5">25%</text>' in svg
    assert svg.endswith("</svg>")
    assert "0.0, 0.0, 0.0, 0.0, 25.0; " in svg
