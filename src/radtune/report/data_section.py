"""What became of the data, for the preview and the report: `data_section(samples_table=..., ...)` fills data.html.j2.

Rows kept and quarantined, shares asked and got, images that train has seen, words against pixels, forms of answers.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from radtune.files import read_json
from radtune.report.words import Words, said, t
from radtune.shards import SPLITS

LISTED = 3  # disagreeing rows shown of each kind


def data_section(
    *, samples_table: Path, quarantine: Path, leakage: Path, checks: Path, disagreements: Path
) -> dict[str, Any]:
    """The values of data.html.j2; `cautions` are sentences that belong at the head of a page."""
    found, leaks = read_json(checks), read_json(leakage)
    seen, cautions = exposure(leaks)
    return rows_of(samples_table, quarantine, found["split"]) | {
        "by": leaks["by"],
        "seen": seen,
        "cautions": cautions + missed(found["split"]),
        "leakage": _leakage(leaks),
        "images": found["images"],
        "split": found["split"],
        "forms": found["forms"],
        "disagreements": found["disagreements"],
        "disagreeing": _first_of_each_kind(disagreements, found["disagreements"]),
        "disagreements_file": f"{disagreements.parent.name}/{disagreements.name}",
    }


def rows_of(samples_table: Path, quarantine: Path, split: Mapping[str, Any]) -> dict[str, Any]:
    """Rows by status, by split and by reason; `adds_up` tells whether each input row is counted exactly once."""
    table = pq.read_table(samples_table, columns=["status", "split", "group", "image_sha256"])
    status = {row["values"]: row["counts"] for row in table["status"].value_counts().to_pylist()}
    kept, lost = status.get("kept", 0), status.get("quarantined", 0)
    with quarantine.open(encoding="utf-8") as lines:
        reasons = Counter(json.loads(line)["reason"] for line in lines if line.strip())
    table = table.filter(pc.equal(table["status"], "kept"))
    by_split = table.group_by("split").aggregate(
        [("split", "count"), ("image_sha256", "count_distinct"), ("group", "count_distinct")]
    )
    splits = [
        {
            "split": row["split"],
            "rows": row["split_count"],
            "images": row["image_sha256_count_distinct"],
            "groups": row["group_count_distinct"],
            "asked": (split["asked"] or {}).get(row["split"]),
            "got": split["got"].get(row["split"]),
        }
        for row in by_split.to_pylist()
    ]
    return {
        "rows": sum(status.values()),
        "kept": kept,
        "quarantined": lost,
        "reasons": reasons.most_common(),
        "splits": sorted(splits, key=lambda row: SPLITS.index(row["split"])),
        "adds_up": kept + lost == sum(status.values()) and reasons.total() == lost,
    }


def exposure(leaks: Mapping[str, Any]) -> tuple[Words, list[Words]]:
    """How many test images train has seen, as delivered and as split here; and a caution where it still sees some, or
    some that look like them.
    """
    before, after = (leaks[key]["images"] for key in ("as_delivered", "after"))
    images = t(" test images")
    delivered, now = _part(before, images), _part(after)
    official = leaks["by"] == "official"
    if official:
        seen = t("As delivered, train holds {delivered}, and that split is kept.", delivered=delivered)
    else:
        by = said(leaks["by"])
        seen = t(
            "As delivered, train holds {delivered}; as split here, by {by}, {now}.", delivered=delivered, by=by, now=now
        )
    like = leaks["after"]["like images"]
    if after["test_in_train"]:
        caution = t("Train has seen {seen}: test scores reward memory.", seen=_part(after, images))
    elif like["test_in_train"]:
        caution = t("Train holds near-duplicates of {seen}: test scores may reward memory.", seen=_part(like, images))
    else:
        return seen, []
    if official:
        advice = t("The split is the delivered one; split.by: group makes one that can be believed.")
    elif after["test_in_train"]:
        return seen, [caution]
    else:
        advice = t("A larger split.largest_group keeps more of them in one split.")
    return seen, [t("{first} {second}", first=caution, second=advice)]


def missed(split: Mapping[str, Any]) -> list[Words]:
    """A caution for each split by group whose share of the rows is not the one that was asked for."""
    asked = split["asked"] or {}
    shares = [(name, asked[name], split["got"][name]) for name in SPLITS if name in asked and name in split["got"]]
    return [
        t(
            "The share of {split} is {got:.1f} % of the rows, {asked:.1f} % were asked for: the groups are too large.",
            split=said(name),
            got=100 * got,
            asked=100 * wanted,
        )
        for name, wanted, got in shares
        if split["by"] == "group" and abs(got - wanted) > split["tolerance"] + 1e-9
    ]


def _part(counts: Mapping[str, int], noun: str = "") -> Words:
    part, whole = counts["test_in_train"], counts["test"]
    share = t(" ({share:.1f} %)", share=100 * part / whole) if part else ""
    return t("{part:,} of {whole:,}{noun}{share}", part=part, whole=whole, noun=noun, share=share)


def _leakage(leaks: Mapping[str, Any]) -> list[tuple[Words, list[tuple[int, int]]]]:
    """Rows of (what, as delivered, as split here); the latter two: how many train holds, of how many."""
    return [
        (
            t("{split} {kind}", split=said(split), kind=said(kind)),
            [
                (found[kind][f"{split}_in_train"], found[kind][split])
                for found in (leaks["as_delivered"], leaks["after"])
            ],
        )
        for kind in leaks["after"]
        for split in ("test", "validation")
    ]


def _first_of_each_kind(path: Path, kinds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first LISTED rows of each kind that disagrees, in the file's order."""
    wanted = {kind: min(LISTED, counts["disagree"]) for kind, counts in kinds.items()}
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if all(len(found[kind]) >= n for kind, n in wanted.items()):
                break
            row = json.loads(line)
            if len(found[row["kind"]]) < LISTED:
                found[row["kind"]].append(row | {key: _plain(row[key]) for key in ("text_says", "pixels_say")})
    return [row for kind in kinds for row in found[kind]]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
