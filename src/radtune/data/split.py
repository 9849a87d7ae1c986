"""Join index and scan into samples.parquet: every input row, kept or quarantined, with its group, split and box.

    radtune split --index index/*.parquet --scan scan/*.parquet --by group --samples samples.parquet ...

kept + quarantined = input rows, checked here. Too large a quarantined share stops the run with the counts by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from radtune.data.groups import group_rows, leakage, split_groups
from radtune.files import UserError, replacing, write_json, write_jsonl
from radtune.reasons import Reason

SCHEMA = pa.schema(
    [
        (name, pa.string())
        for name in (
            "shard",
            "row",
            "id",
            "tag",
            "split_official",
            "image_sha256",
            "group",
            "split",
            "status",
            "reason",
        )
    ]
    + [("box", pa.list_(pa.int32())), ("parts", pa.string())]
).set(1, pa.field("row", pa.int64()))


def split(
    index: list[Path],
    scan: list[Path],
    *,
    by: str,
    fractions: dict[str, float],
    seed: int,
    quarantine_share: float,
    samples: Path,
    quarantine: Path,
    leakage_out: Path,
) -> None:
    rows = _read(index)
    looks = {look["image_sha256"]: look for look in _read(scan)}
    seen: set[tuple[str, str]] = set()
    for row in rows:
        look = looks.get(row["image_sha256"], {})
        row["box"] = look.get("box")
        if not row["reason"] and look.get("reason"):
            row["reason"] = look["reason"]
        if not row["reason"] and (row["id"], row["tag"]) in seen:
            row["reason"] = Reason.DUPLICATE
        if not row["reason"]:
            seen.add((row["id"], row["tag"]))
        row["status"] = "quarantined" if row["reason"] else "kept"
    kept = [row for row in rows if row["status"] == "kept"]
    lost = [row for row in rows if row["status"] == "quarantined"]
    assert len(kept) + len(lost) == len(rows) == sum(pq.read_metadata(path).num_rows for path in index)
    _check_share(lost, len(rows), quarantine_share, quarantine)
    write_jsonl(quarantine, map(_quarantined, lost))

    images, official = [row["image_sha256"] for row in kept], [row["split_official"] for row in kept]
    groups = group_rows(images, [row["id"] for row in kept])
    chosen = official if by == "official" else split_groups(groups, fractions, seed)
    for row, group, name in zip(kept, groups, chosen, strict=True):
        row |= {"group": group, "split": name}
    write_json(
        leakage_out,
        {"as_delivered": leakage(official, images, groups), "after": leakage(chosen, images, groups), "by": by},
    )
    with replacing(samples) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary)


def _read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    return [row for path in sorted(paths) for row in pq.read_table(path).to_pylist()]


def _quarantined(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("shard", "row", "id", "tag", "reason")} | {"text": row["raw"]}


def _check_share(lost: list[dict[str, Any]], total: int, allowed: float, quarantine: Path) -> None:
    if len(lost) > allowed * total or len(lost) == total:
        refused = quarantine.with_suffix(".refused.jsonl")  # a failed job's declared outputs are deleted; this stays
        write_jsonl(refused, map(_quarantined, lost))
        reasons = ", ".join(f"{reason} {n}" for reason, n in Counter(row["reason"] for row in lost).most_common())
        raise UserError(
            f"{len(lost)} of {total} rows cannot be used ({reasons}), more than limits.quarantine_share {allowed:g} "
            f"allows; see {refused}, then mend the data or raise the limit."
        )
