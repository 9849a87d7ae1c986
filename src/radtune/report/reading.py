"""The page of `radtune read`: `page(reading, originals)` from what reading.json holds; `card(...)`: one image of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from radtune.report.gallery import picture, shorten
from radtune.report.template import render
from radtune.report.verdict import FLOORS, as_score, as_signed, as_span
from radtune.report.words import Words, t

SHOWN = 200  # images on the page; the rest are in reading.json
TASKS = {
    "CAPTION": t("Brief description"),
    "CAPTION_DETAILS": t("Detailed description"),
    "REGION_OF_INTEREST": t("Region of interest"),
    "OBSERVATION": t("Clinical observation"),
    "JSON_RECORD": t("Record"),
    "DETECT_REGION_LOC": t("Place of the lesion"),
    "REGION_LOC_DESCRIPTION": t("Findings and their places"),
}
METRICS: dict[str, str] = {
    "rouge_l": "ROUGE-L",
    "slots": t("Place and density words"),
    "iou": t("Box overlap (IoU)"),
    "record_fields": t("Record fields"),
}
OUTCOMES = {
    "better": t("better than its floor on the test split"),
    "worse": t("worse than its floor on the test split"),
    "not better": t("not better than its floor on the test split"),
    "unknown": t("no floor or interval to tell"),
}


def page(reading: Mapping[str, Any], originals: Path, media_dir: Path | None = None) -> str:
    """The whole page. `originals`: the folder with each image as ID.png; `media_dir`: that of the similar cases."""
    shown = reading["images"][:SHOWN]
    return render(
        "reading.html.j2",
        _filters(),
        **_names(),
        reading=reading,
        pictures={image["id"]: picture(originals, f"{image['id']}.png") for image in shown},
        cases=case_pictures(shown, media_dir),
        shown=shown,
        sure=sure(reading),
    )


def card(reading: Mapping[str, Any], uri: str | None, language: str, media_dir: Path | None = None) -> str:
    """The first image of a reading, and how sure one can be, in one language. `uri`: its picture."""
    image = reading["images"][0]
    found = {"image": image, "uri": uri, "sure": sure(reading), "cases": case_pictures([image], media_dir)}
    return render("read.html.j2", _filters(), language, **_names(), **found)


def case_pictures(images: Iterable[Mapping[str, Any]], media_dir: Path | None) -> dict[str, str | None]:
    """{image: its picture as a data URI} of the similar cases."""
    names = {case["image"] for image in images for case in image["similar"]}
    return {name: picture(media_dir, name) for name in names} if media_dir else {}


def sure(reading: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each score of the tasks that were asked."""
    asked = dict.fromkeys(tag for image in reading["images"] for tag in image["tasks"])
    return [
        score | {"tag": tag, "of": METRICS[score["metric"]], "outcome": OUTCOMES[score["says"]]}
        for tag in asked
        for score in reading["scores"].get(tag, [])
    ]


def _names() -> dict[str, Any]:
    return {"tasks": TASKS, "floors": FLOORS}


def _filters() -> dict[str, Any]:
    return {"score": as_score, "signed": as_signed, "span": as_span, "field": _field, "shorten": shorten}


def _field(value: object) -> str | Words:
    """A record's value as text."""
    if value is None or value == "":
        return t("none given")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
