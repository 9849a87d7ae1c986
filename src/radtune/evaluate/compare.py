"""Experiments against each other on the samples that both answered: differences with interval and corrected p.

radtune compare-experiments --samples base/test.samples.parquet lora/test.samples.parquet --out differences.json
"""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from radtune.evaluate import bootstrap, reworded
from radtune.evaluate.score import LOWER
from radtune.files import UserError, write_json

# per-sample metrics, one or two of each kind: every further one makes the others' p larger
METRICS = [
    "rouge_l",
    "semantic",
    "exact_match",
    "slots",
    "laterality",
    "findings_invented",
    "findings_missed",
    "record_valid",
    "record_fields",
    "iou",
    *reworded.CHANGES,
]
LEVEL = 0.05


def compare(samples: list[Path], out: Path) -> None:
    """Write `out`: {"differences": [...], "p": what p is, "level"}.

    `samples`: what `radtune evaluate` writes, EXPERIMENT/SPLIT.samples.parquet. A difference holds split, metric, of,
    minus (the experiments), their `scores`, value, interval, n, groups, p, and better: the experiment that is, None
    where no difference is shown. Those of one split are compared, pair by pair. Raises UserError where a pair shares no
    sample.
    """
    tables = {(path.parent.name, path.name.split(".")[0]): read(path) for path in samples}
    pairs = [(old, new) for old, new in combinations(tables, 2) if old[1] == new[1]]
    pairs.sort(key=lambda pair: pair[0][1])
    draws = enough(len(pairs))
    found = []
    for (minus, split), (of, _) in pairs:
        found += differences(split, of, minus, tables[of, split], tables[minus, split], draws)
    write_json(out, {"differences": judged(found), "p": bootstrap.p_signature(draws), "level": LEVEL})


def enough(pairs: int) -> int:
    """Draws with which the smallest p is half of LEVEL after Holm, however many pairs are compared."""
    return max(bootstrap.RESAMPLES, math.ceil(2 * pairs * len(METRICS) / LEVEL))


def judged(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Differences of one table with p corrected, and who is better."""
    for difference, p in zip(found, bootstrap.holm([each["p"] for each in found]), strict=True):
        up = (difference["value"] > 0) == (difference["metric"] not in LOWER)
        better = difference["of"] if up else difference["minus"]
        difference |= {"p": p, "better": better if p < LEVEL else None}
    return found


def differences(
    split: str, of: str, minus: str, ours: dict[str, Any], theirs: dict[str, Any], draws: int
) -> list[dict[str, Any]]:
    """Of each metric that both tables, of read(), have for some sample; p as it is. Groups are those of `ours`."""
    place = {name: n for n, name in enumerate(zip(theirs["id"], theirs["tag"], strict=True))}
    pairs = [(n, place[name]) for n, name in enumerate(zip(ours["id"], ours["tag"], strict=True)) if name in place]
    if not pairs:
        raise UserError(f"{of} and {minus} answered no sample of {split} in common; predict both on the same split.")
    first, second = np.array(pairs).T
    groups = np.array(ours["group"])[first]
    found = []
    for metric in [name for name in METRICS if name in ours and name in theirs]:
        a, b = (np.array(table[metric], np.float64)[rows] for table, rows in ((ours, first), (theirs, second)))
        p = bootstrap.p_value(groups, a, b, draws)
        if p is None:
            continue
        value, n, n_groups, interval = bootstrap.summary(groups, a, b)
        found.append({"split": split, "metric": metric, "of": of, "minus": minus, "value": value, "interval": interval})
        both = ~np.isnan(a + b)
        found[-1] |= {"n": n, "groups": n_groups, "p": p, "scores": [float(a[both].mean()), float(b[both].mean())]}
    return found


def read(path: Path) -> dict[str, Any]:
    """Columns of a file of scores: id, tag, group, those of METRICS that it has or that follow from it."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    there = set(pq.read_schema(path).names)  # an older run may lack a metric
    columns = [name for name in ("id", "tag", "group", *METRICS) if name in there]
    found: dict[str, Any] = pq.read_table(path, columns=columns).to_pydict()
    for name, metric in reworded.CHANGES.items():
        both = [f"{reworded.NAME}_{metric}", metric]
        if there.issuperset(both):
            found[name] = pc.subtract(*pq.read_table(path, columns=both).columns).to_pylist()
    return found
