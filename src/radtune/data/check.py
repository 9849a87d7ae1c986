"""What a reader asks of the samples: do texts agree with their pixels, in which forms do coordinates come, are the
shares met?

    radtune check --index index/*.parquet --scan scan/*.parquet --samples samples.parquet --out checks.json ...

checks.json: images (with a rectangle, without, in doubt), forms, disagreements by kind, split (shares asked and
got, by how much they may differ, groups). disagreements.jsonl: one line for each statement of a kept text that the
rectangle in its pixels contradicts.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from radtune.data.agreement import KINDS, compare
from radtune.data.answers import TAGS
from radtune.data.groups import TOLERANCE
from radtune.data.split import SURE, read_index, read_scan
from radtune.files import write_json, write_jsonl
from radtune.shards import SPLITS

_FORMS = {"JSON_RECORD": "JSON_RECORD.bloc"}  # where coordinates stand, if not in the answer itself


def check(
    index: list[Path],
    scan: list[Path],
    samples: Path,
    *,
    by: str,
    fractions: dict[str, float],
    out: Path,
    disagreements: Path,
) -> None:
    """Write checks.json to `out`, and disagreements.jsonl."""
    rows = read_index(index, ("raw", "parts"))
    look = read_scan(scan, rows["image_sha256"])
    kept = pq.read_table(samples, columns=["status", "split", "group"])
    counts = _compare(rows, look, pc.equal(kept["status"], "kept").to_pylist(), disagreements)
    kept = kept.filter(pc.equal(kept["status"], "kept"))
    shares, groups = (Counter(kept[name].to_pylist()) for name in ("split", "group"))
    write_json(
        out,
        {
            "images": _rectangles(pa.concat_tables(pq.read_table(path) for path in sorted(scan))),
            "forms": {_FORMS.get(tag, tag): found for tag in TAGS if (found := _count(rows, tag))},
            "disagreements": counts,
            "split": {
                "by": by,
                "asked": fractions,
                "got": {name: shares[name] / len(kept) for name in SPLITS},
                "tolerance": TOLERANCE,
                "groups": len(groups),
                "largest_group": max(groups.values()),
            },
        },
    )


def _count(rows: pa.Table, tag: str) -> dict[str, int]:
    return dict(Counter(rows.filter(pc.equal(rows["tag"], tag))["form"].drop_null().to_pylist()).most_common())


def _compare(rows: pa.Table, look: pa.Table, kept: list[bool], out: Path) -> dict[str, dict[str, int]]:
    """Hold what the kept texts say of their region against the rectangle: counts by kind, and a line in `out` each."""
    counts = {kind: {"checked": 0, "disagree": 0} for kind in KINDS}
    places = [look[name].to_pylist() for name in ("box", "width", "height")]
    lines: list[dict[str, Any]] = []
    for i, (keep, stated, *place) in enumerate(zip(kept, rows["stated"].to_pylist(), *places, strict=True)):
        if not keep or stated is None or place[0] is None:
            continue
        for kind, text_says, pixels_say, agrees in compare(orjson.loads(stated), *place):
            counts[kind]["checked"] += 1
            if not agrees:
                counts[kind]["disagree"] += 1
                row = {name: rows[name][i].as_py() for name in ("shard", "row", "id", "tag")}
                lines.append(row | {"kind": kind, "text_says": text_says, "pixels_say": pixels_say})
    write_jsonl(out, lines)
    return counts


def _rectangles(looks: pa.Table) -> dict[str, int]:
    confidence = looks["box_confidence"]
    with_box = len(looks) - confidence.null_count
    return {
        "unique": len(looks),
        "with_box": with_box,
        "without_box": len(looks) - with_box,
        "low_confidence": pc.sum(pc.less(confidence, SURE)).as_py() or 0,
    }
