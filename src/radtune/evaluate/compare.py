"""Experiments against each other on the samples that both answered: differences with interval and corrected p.

radtune compare-experiments --samples base/test.samples.parquet lora/test.samples.parquet --out differences.json
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from radtune.evaluate import bootstrap
from radtune.files import UserError, write_json

# per-sample metrics, one or two of each kind: every further one makes the others' p larger
METRICS = [
    "rouge_l",
    "exact_match",
    "slots",
    "laterality",
    "findings_invented",
    "findings_missed",
    "record_fields",
    "iou",
]
LOWER = {"findings_invented", "findings_missed"}  # where less is better
LEVEL = 0.05


def compare(samples: list[Path], out: Path) -> None:
    """Write `out`: {"differences": [...], "p": what p is, "level"}.

    `samples`: what `radtune evaluate` writes, EXPERIMENT/SPLIT.samples.parquet. A difference holds split, metric, of,
    minus (the experiments), value, interval, n, groups, p, and better: the experiment that is, None where no difference
    is shown. Those of one split are compared, pair by pair. Raises UserError where a pair shares no sample.
    """
    tables = {(path.parent.name, path.name.split(".")[0]): _read(path) for path in samples}
    differences = []
    for split in sorted({split for _, split in tables}):
        names = [experiment for experiment, of in tables if of == split]
        for minus, of in combinations(names, 2):
            differences += _differences(split, of, minus, tables[of, split], tables[minus, split])
    for difference, p in zip(differences, bootstrap.holm([found["p"] for found in differences]), strict=True):
        up = (difference["value"] > 0) == (difference["metric"] not in LOWER)
        better = difference["of"] if up else difference["minus"]
        difference |= {"p": p, "better": better if p < LEVEL else None}
    write_json(out, {"differences": differences, "p": bootstrap.P_SIGNATURE, "level": LEVEL})


def _differences(split: str, of: str, minus: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[dict[str, Any]]:
    place = {name: n for n, name in enumerate(zip(theirs["id"], theirs["tag"], strict=True))}
    pairs = [(n, place[name]) for n, name in enumerate(zip(ours["id"], ours["tag"], strict=True)) if name in place]
    if not pairs:
        raise UserError(f"{of} and {minus} answered no sample of {split} in common; predict both on the same split.")
    first, second = np.array(pairs).T
    groups = np.array(ours["group"])[first]
    found = []
    for metric in METRICS:
        a, b = (np.array(table[metric], np.float64)[rows] for table, rows in ((ours, first), (theirs, second)))
        p = bootstrap.p_value(groups, a, b)
        if p is None:
            continue
        value, n, n_groups, interval = bootstrap.summary(groups, a, b)
        found.append({"split": split, "metric": metric, "of": of, "minus": minus, "value": value, "interval": interval})
        found[-1] |= {"n": n, "groups": n_groups, "p": p}
    return found


def _read(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    found: dict[str, Any] = pq.read_table(path, columns=["id", "tag", "group", *METRICS]).to_pydict()
    return found
