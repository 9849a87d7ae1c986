"""Two results folders against each other: each experiment that both have, on the samples that both answered.

radtune compare results/before results/after --out compare.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from radtune.evaluate import bootstrap
from radtune.evaluate.compare import LEVEL, METRICS, differences, enough, judged, read
from radtune.files import UserError, read_json, read_jsonl

Scores = dict[tuple[str, str], dict[str, Any]]  # experiment and split -> columns, see compare.read()


def between(a: Path, b: Path) -> dict[str, Any]:
    """{"a", "b" (the folders), "differences", "notes" (sentences), "config" (see `_config`), "p", "level"}.

    A difference is one of compare.differences(), B minus A, with its experiment; groups are those of B. Raises
    UserError for a folder without scores, and where the two share no experiment, or no sample of one.
    """
    old, new = (_scores(folder) for folder in (a, b))
    shared = [key for key in old if key in new]
    if not shared:
        has = "; ".join(f"{of} has {', '.join(map('/'.join, each))}" for of, each in ((a, old), (b, new)))
        raise UserError(f"No experiment was scored on one split in both ({has}); name runs that share one.")
    found, draws = [], enough(len(shared))
    notes = [f"Only {a} has {'/'.join(key)}." for key in old if key not in new]
    notes += [f"Only {b} has {'/'.join(key)}." for key in new if key not in old]
    for experiment, split in shared:
        ours, theirs = new[experiment, split], old[experiment, split]
        found += [{"experiment": experiment} | row for row in differences(split, "B", "A", ours, theirs, draws)]
        notes += _samples(
            f"{experiment}/{split}", *(_references(*of, experiment, split) for of in ((a, theirs), (b, ours)))
        )
        notes += _metrics(f"{experiment}/{split}", *(of / "evaluate" / experiment / f"{split}.json" for of in (a, b)))
    about = {"a": str(a), "b": str(b), "p": bootstrap.p_signature(draws), "level": LEVEL}
    return about | {"differences": judged(found), "notes": notes, "config": _config(a, b)}


def _scores(folder: Path) -> Scores:
    paths = sorted(folder.glob("evaluate/*/*.samples.parquet"))
    if not paths:
        raise UserError(f"{folder} holds no evaluate/EXPERIMENT/SPLIT.samples.parquet; name a finished results folder.")
    return {(path.parent.name, path.name.split(".")[0]): read(path) for path in paths}


def _references(folder: Path, scores: dict[str, Any], experiment: str, split: str) -> dict[tuple[str, str], str | None]:
    """The reference of each sample that was scored, by id and tag; None where the answers are no longer there."""
    path = folder / "predict" / experiment / f"{split}.jsonl"
    rows = read_jsonl(path) if path.is_file() else []
    known = {(row["id"], row["tag"]): row["reference"] for row in rows}
    return {key: known.get(key) for key in zip(scores["id"], scores["tag"], strict=True)}


def _samples(name: str, old: Mapping[Any, str | None], new: Mapping[Any, str | None]) -> Iterator[str]:
    """What a reader must know of the samples: those that only one has, and shared ones that ask for another answer."""
    shared = old.keys() & new.keys()
    if old.keys() != new.keys():
        yield (
            f"{name}: {len(shared):,} samples are in both; {len(old) - len(shared):,} in A alone and "
            f"{len(new) - len(shared):,} in B alone do not count."
        )
    pairs = [(old[key], new[key]) for key in shared]
    if unknown := sum(None in pair for pair in pairs):
        yield f"{name}: the references of {unknown:,} samples are no longer there, so they may not be the same."
    if other := sum(one != two for one, two in pairs if one is not None and two is not None):
        yield f"{name}: the references of {other:,} of {len(shared):,} shared samples differ: these are two tasks."


def _metrics(name: str, *paths: Path) -> Iterator[str]:
    """Which of the compared metrics were computed in two ways."""
    one, two = (read_json(path)["signatures"] if path.is_file() else {} for path in paths)
    if changed := [metric for metric in METRICS if one.get(metric) != two.get(metric)]:
        yield f"{name}: not computed in the same way, or it is not known how: {', '.join(changed)}."


def _config(a: Path, b: Path) -> list[tuple[str, str, str]] | None:
    """(key, value in A, value in B) where the merged configs differ, as JSON; None where one is missing."""
    paths = [folder / "config.yaml" for folder in (a, b)]
    if not all(path.is_file() for path in paths):
        return None
    one, two = (_flat(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in paths)
    keys = [key for key in one | two if key != "results" and one.get(key) != two.get(key)]
    return [(key, one.get(key, "–"), two.get(key, "–")) for key in keys]


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            found |= _flat(inner, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = json.dumps(inner, ensure_ascii=False)
    return found


def verdict(difference: Mapping[str, Any]) -> str:
    return f"{difference['better']} is better" if difference["better"] else "no difference shown"


def table(found: Mapping[str, Any]) -> str:
    """All of it as text for a terminal."""
    head = ["experiment", "split", "metric", "A", "B", "B - A", "95 % interval", "n", "groups", "p", ""]
    rows = [head]
    for row in found["differences"]:
        low, high = row["interval"]
        numbers = [f"{row['value']:+.2f}", f"{low:+.2f} to {high:+.2f}", f"{row['n']:,}", f"{row['groups']:,}"]
        scores = [f"{score:.2f}" for score in row["scores"][::-1]]
        rows.append(
            [row["experiment"], row["split"], row["metric"], *scores, *numbers, f"{row['p']:.3f}", verdict(row)]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"A  {found['a']}", f"B  {found['b']}", ""]
    for cells in rows:
        padded = (f"{cell:{'>' if 3 <= n < 10 else '<'}{widths[n]}}" for n, cell in enumerate(cells))
        lines.append("  ".join(padded).rstrip())
    lines += ["", f"A difference is shown where p is below {found['level']}: {found['p']}.", *found["notes"]]
    if found["config"] is None:
        return "\n".join([*lines, "Whether the configs differ is not known: one has no config.yaml."])
    changed = [f"  {key}: {one} in A, {two} in B" for key, one, two in found["config"]]
    return "\n".join([*lines, "Config: " + ("these keys differ" if changed else "no key differs"), *changed])
