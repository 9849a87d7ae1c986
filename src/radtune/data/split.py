"""Join index and scan into samples.parquet: every input row, kept or quarantined, with its group, split and box.

    radtune split --index index/*.parquet --scan scan/*.parquet --by group --samples samples.parquet ...

kept + quarantined = input rows, checked here. Too large a quarantined share stops the run with the counts by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from radtune.data.answers import settled
from radtune.data.groups import group_rows, leakage, near_duplicates, near_leakage, split_groups
from radtune.files import UserError, read_jsonl, replacing, write_json, write_jsonl
from radtune.reasons import Reason, Unusable

SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("row", pa.int64()),
        ("id", pa.string()),
        ("sample", pa.string()),  # the id, made unique where another image has the same id and tag
        ("tag", pa.string()),
        ("split_official", pa.string()),
        ("image_sha256", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("status", pa.string()),  # kept or quarantined
        ("reason", pa.string()),
        ("box", pa.list_(pa.int32())),  # the rectangle found in the pixels, see images/scan.py
        ("parts", pa.string()),  # the parsed answer as JSON
    ]
)
SURE = 0.8  # confidence from which a rectangle counts as found beyond doubt
_WITHOUT_BOX = (Reason.BOX_UNPARSABLE, Reason.BOX_UNSETTLED)
Columns = dict[str, list[Any]]


def split(
    index: list[Path],
    scan: list[Path],
    *,
    by: str,
    fractions: dict[str, float],
    seed: int,
    near_duplicate_bits: int,
    largest_group: float,
    missing_boxes: str,
    quarantine_share: float,
    samples: Path,
    quarantine: Path,
    leakage_out: Path,
) -> None:
    """Write samples.parquet, quarantine.jsonl (the rows not used) and leakage.json (what splits share)."""
    index = sorted(index)
    rows = read_index(index, ("raw", "stated"))
    look = read_scan(scan, rows["image_sha256"])
    columns: Columns = {name: rows[name].to_pylist() for name in ("id", "tag", "image_sha256", "parts", "form")}
    columns |= {name: look[name].to_pylist() for name in ("box", "box_confidence", "width", "height")}
    columns["reason"] = pc.coalesce(rows["reason"], look["reason"]).to_pylist()
    _place_boxes(columns, missing_boxes == "recover")
    columns["sample"] = _name_samples(columns)

    kept = np.array([reason is None for reason in columns["reason"]])
    lost = np.flatnonzero(~kept)
    _check_share(columns["reason"], index, lost, rows, quarantine_share, quarantine)
    write_jsonl(quarantine, _quarantined(columns["reason"], index, lost, rows))

    used, likeness = rows.filter(pa.array(kept)), look["likeness"].filter(pa.array(kept)).combine_chunks()
    near = near_duplicates(_bits(pc.unique(likeness)), near_duplicate_bits)
    keys = [used[name].combine_chunks() for name in ("image_sha256", "id", "kin")]
    groups = group_rows(*keys, likeness, near=near, largest=largest_group).to_pylist()
    official, images = used["split_official"].to_pylist(), used["image_sha256"].to_pylist()
    chosen = official if by == "official" else split_groups(groups, fractions, seed)
    found = {
        name: leakage(splits, images, groups) | {"like images": near_leakage(splits, likeness, near)}
        for name, splits in (("as_delivered", official), ("after", chosen))
    }
    write_json(leakage_out, found | {"by": by})
    table = rows.select(["shard", "row", "id", "tag", "split_official", "image_sha256"])
    places = np.where(kept, np.cumsum(kept) - 1, 0)
    mask = pa.array(~kept)
    more = {
        "sample": pa.array(columns["sample"], pa.string()),
        "group": pc.if_else(mask, None, pa.array(groups, pa.string()).take(pa.array(places))),
        "split": pc.if_else(mask, None, pa.array(chosen, pa.string()).take(pa.array(places))),
        "status": pc.if_else(mask, "quarantined", "kept"),
        "reason": pa.array(columns["reason"], pa.string()),
        "box": look["box"],
        "parts": pa.array(columns["parts"], pa.string()),
    }
    for name, values in more.items():
        table = table.append_column(name, values)
    with replacing(samples) as temporary:
        pq.write_table(table.select(SCHEMA.names).cast(SCHEMA), temporary, compression="zstd")
        _check_sum(temporary, quarantine, index)


def _check_sum(samples: Path, quarantine: Path, index: list[Path]) -> None:
    """Every row of the shards stands in `samples`, and is kept there or has a line in `quarantine`: as written."""
    asked = sum(int(pq.read_metadata(path).metadata[b"rows"]) for path in index)
    status = pq.read_table(samples, columns=["status"])["status"]
    kept, lost = pc.sum(pc.equal(status, "kept")).as_py() or 0, len(read_jsonl(quarantine))
    if not kept + lost == len(status) == asked:
        raise UserError(
            f"{quarantine.parent}: {kept} rows kept and {lost} quarantined, {kept + lost} of the shards' {asked}; "
            "delete its index, scan and samples.parquet, then run the same command again."
        )


def read_index(index: list[Path], without: Collection[str]) -> pa.Table:
    """The index's rows, less the columns `without`, with their shard and official split."""
    tables = []
    for path in sorted(index):
        with pq.ParquetFile(path) as file:
            table = file.read([name for name in file.schema_arrow.names if name not in without])
            official = file.metadata.metadata[b"split"].decode()
        for name, value in (("shard", path.stem), ("split_official", official)):
            table = table.append_column(name, pa.repeat(pa.scalar(value), len(table)))
        tables.append(table)
    return pa.concat_tables(tables).combine_chunks()


def read_scan(scan: list[Path], images: pa.ChunkedArray) -> pa.Table:
    """What the scan says of each of `images` (digests, one a row); nulls where it has not seen it."""
    looks = pa.concat_tables(pq.read_table(path) for path in sorted(scan)).combine_chunks()
    return looks.take(pc.index_in(images, looks["image_sha256"]))


def _place_boxes(columns: Columns, recover: bool) -> None:
    """Let the rectangle in the pixels say what coordinates of an unknown frame mean, and with `recover` take it where a
    text has none.
    """
    for i, (tag, form) in enumerate(zip(columns["tag"], columns["form"], strict=True)):
        if form is None:
            continue
        reason, found = columns["reason"][i], columns["box"][i]
        if reason is None and form in ("list", "mapping"):
            parts = orjson.loads(columns["parts"][i])
            try:
                placed = settled(tag, parts, found, columns["width"][i], columns["height"][i])
                columns["parts"][i] = orjson.dumps(placed).decode()
            except Unusable as error:
                columns["reason"][i] = error.reason
        without = tag == "DETECT_REGION_LOC" and columns["reason"][i] in _WITHOUT_BOX and form != "several"
        if recover and without and found and columns["box_confidence"][i] >= SURE:
            x1, y1, x2, y2 = found  # the last pixels: a box's edges lie behind them
            box = [x1, y1, x2 + 1, y2 + 1]
            parts = {"form": form, "label": _label(columns["parts"][i], form), "box": box}
            columns["parts"][i] = orjson.dumps(parts).decode()
            columns["reason"][i] = None


def _label(parts: str, form: str) -> str:
    """The region's name beside missing coordinates; words of place and broken tokens are none."""
    label = str(orjson.loads(parts)["label"])
    return "" if form == "words" or "<" in label else label


def _name_samples(columns: Columns) -> list[str]:
    """Each row's name: its id, with the image's digest where another image has that id and tag. A second row of the
    same id, tag and image gets Reason.DUPLICATE.
    """
    names = list(columns["id"])
    owner: dict[tuple[str, str], str] = {}
    seen: set[tuple[str, str, str]] = set()
    keys = zip(columns["id"], columns["tag"], columns["image_sha256"], strict=True)
    for i, (id, tag, image) in enumerate(keys):
        if columns["reason"][i] is None:
            if (id, tag, image) in seen:
                columns["reason"][i] = Reason.DUPLICATE
            seen.add((id, tag, image))
            if owner.setdefault((id, tag), image) != image:
                names[i] = f"{id}~{image[:8]}"
    return names


def _bits(hashes: pa.Array) -> np.ndarray[Any, Any]:
    """Hashes of one width as n x bytes."""
    width = hashes.type.byte_width
    return np.frombuffer(hashes.buffers()[1], np.uint8).reshape(-1, width)[hashes.offset :][: len(hashes)]


def _quarantined(
    reasons: list[Any], index: list[Path], lost: np.ndarray[Any, Any], rows: pa.Table
) -> Iterator[dict[str, Any]]:
    """The lost rows with their raw text, read shard by shard."""
    first = 0
    entries = rows.select(["shard", "row", "id", "tag"]).take(pa.array(lost)).to_pylist()
    for path in index:
        n = pq.read_metadata(path).num_rows
        here = lost[(lost >= first) & (lost < first + n)]
        raw = pq.read_table(path, columns=["raw"])["raw"].take(pa.array(here - first)).to_pylist() if len(here) else []
        for place, text in zip(here, raw, strict=True):
            yield entries[int(np.searchsorted(lost, place))] | {"reason": reasons[place], "text": text}
        first += n


def _check_share(
    reasons: list[Any],
    index: list[Path],
    lost: np.ndarray[Any, Any],
    rows: pa.Table,
    allowed: float,
    quarantine: Path,
) -> None:
    if len(lost) > allowed * len(rows) or len(lost) == len(rows):
        refused = quarantine.with_suffix(".refused.jsonl")  # a failed job's declared outputs are deleted; this stays
        write_jsonl(refused, _quarantined(reasons, index, lost, rows))
        counts = ", ".join(f"{reason} {n}" for reason, n in Counter(reasons[i] for i in lost).most_common())
        raise UserError(
            f"{len(lost)} of {len(rows)} rows cannot be used ({counts}), more than limits.quarantine_share "
            f"{allowed:g} allows; see {refused}, then mend the data or raise the limit."
        )
