"""A page with each split's first samples: before and after, size, mode, tag, prompt and answer.

radtune preview --sharegpt DIR --samples samples.parquet --images images.parquet --shards FOLDER --out index.html
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader
from PIL import Image

from radtune.files import read_json, write_text
from radtune.shards import read_image

SPLITS = ("train", "validation", "test")


def write_preview(
    sharegpt: Path, samples: Path, images: Path, shards: Path, media_dir: Path, out: Path, *, column: str = "image"
) -> None:
    """One self-contained HTML page with, for each split, the first sample of every tag, each on an image of its own."""
    owners = {row["image_sha256"]: row for row in pq.read_table(images).to_pylist()}
    status = pq.read_table(samples, columns=["status"])["status"].to_pylist()
    splits = []
    for split in SPLITS:
        entries = read_json(sharegpt / f"{split}.json")
        cards = []
        for entry in _first_of_each_tag(entries):
            after = media_dir / entry["images"][0]
            owner = owners[after.stem]
            data = read_image(shards / f"{owner['shard']}.parquet", owner["row"], column)
            cards.append(_card(entry, data, after))
        tags = sorted(Counter(entry["tag"] for entry in entries).items())
        splits.append({"name": split, "tags": tags, "rows": len(entries), "cards": cards})
    template = Environment(loader=PackageLoader("radtune.report"), autoescape=True).get_template("preview.html.j2")
    counts = {"rows": len(status), "kept": status.count("kept"), "quarantined": status.count("quarantined")}
    write_text(out, template.render(splits=splits, counts=counts, dataset=sharegpt.name))


def _first_of_each_tag(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    chosen: dict[str, dict[str, Any]] = {}
    shown: set[str] = set()
    for entry in entries:
        if entry["tag"] not in chosen and entry["images"][0] not in shown:
            chosen[entry["tag"]] = entry
            shown.add(entry["images"][0])
    return [chosen[tag] for tag in sorted(chosen)]


def _card(entry: dict[str, Any], data: bytes, after: Path) -> dict[str, Any]:
    before, enhanced = Image.open(io.BytesIO(data)), Image.open(after)
    return {
        "tag": entry["tag"],
        "id": entry["id"],
        "prompt": entry["messages"][0]["content"],
        "answer": entry["messages"][1]["content"],
        "before": {"uri": _uri(before), "text": f"{before.width}×{before.height} {before.mode} {before.format}"},
        "after": {
            "uri": _uri(enhanced),
            "text": f"{enhanced.width}×{enhanced.height} {enhanced.mode} {enhanced.format}",
        },
    }


def _uri(image: Image.Image, side: int = 320) -> str:
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
