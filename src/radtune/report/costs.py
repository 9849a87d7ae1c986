"""What a run took: time, memory and money by rule, and the speed of training and of prediction.

`costs(...)` fills costs.html.j2. Times and memory are Snakemake's own, from a benchmark file a job. Those of jobs that
did not run this time stand from when they ran last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radtune.files import read_json, read_jsonl
from radtune.report import figures
from radtune.report.words import t

SHOWN = 12  # rules in the picture, those that took longest


def costs(
    benchmarks: Path | None, trainings: Sequence[Path], predictions: Sequence[Path], price: float | None
) -> dict[str, Any]:
    """`benchmarks`: the folder of {rule}.jsonl and {rule}/**.jsonl, None or absent where nothing was measured.

    `trainings` and `predictions`: train/{experiment}/ and predict/{experiment}/{split}.jsonl. `price`: of the machine,
    an hour, in any currency; each job counts as if it had the machine to itself.
    """
    rules, unread = by_rule(benchmarks)
    total = sum(rule["seconds"] for rule in rules)
    for rule in rules:
        rule["money"] = None if price is None else price * rule["seconds"] / 3600
    bars = [(rule["rule"], [rule["seconds"]]) for rule in rules[:SHOWN]]
    return {
        "rules": rules,
        "shown": SHOWN,
        "unread": unread,
        "seconds": total,
        "price": price,
        "money": None if price is None else price * total / 3600,
        "chart": figures.bar_chart(t("Time by rule"), bars, number=duration) if bars else None,
        "trainings": [found for folder in trainings if (found := training(folder))],
        "predictions": [prediction(path) for path in predictions],
    }


def by_rule(benchmarks: Path | None) -> tuple[list[dict[str, Any]], int]:
    """A row a rule, the longest first: jobs, seconds (summed), cpu (seconds) and memory (MiB, of the largest job).

    None where none of its jobs was measured; how many files could not be read.
    """
    rules: dict[str, dict[str, Any]] = {}
    unread = 0
    for path in sorted(benchmarks.rglob("*.jsonl")) if benchmarks else []:
        try:
            records = read_jsonl(path)
        except (OSError, ValueError):
            unread += 1
            continue
        name = path.relative_to(benchmarks or path).parts[0].removesuffix(".jsonl")
        rule = rules.setdefault(name, {"rule": name, "jobs": 0, "seconds": 0.0, "cpu": None, "memory": None})
        rule["jobs"] += 1
        for record in records:
            rule["seconds"] += record["s"]
            if record["cpu_time"] != "NA":  # as Snakemake writes of a job that ended before it looked
                rule["cpu"] = (rule["cpu"] or 0.0) + record["cpu_time"]
                rule["memory"] = max(rule["memory"] or 0.0, record["max_rss"])
    return sorted(rules.values(), key=lambda rule: -rule["seconds"]), unread


def training(folder: Path) -> dict[str, Any] | None:
    """Seconds, and samples and tokens (without padding) a second, of one experiment; None where nothing says so."""
    if not (path := folder / "summary.json").exists() or not (summary := read_json(path)).get("runtime"):
        return None
    seconds, epochs = summary["runtime"], summary["epochs"]
    check = read_json(path) if (path := folder / "preflight.json").exists() else {}
    lengths = check.get("tokens", {}).get("train", {}).get("all")
    samples = lengths["count"] * epochs / seconds if lengths else None
    tokens = samples * lengths["mean"] if lengths and samples else None
    return {"experiment": folder.name, "seconds": seconds, "epochs": epochs, "samples": samples, "tokens": tokens}


def prediction(path: Path) -> dict[str, Any]:
    """Samples, seconds of each and tokens a second, of one experiment on one split."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    timed = [row for row in rows if row.get("seconds") is not None and row.get("tokens") is not None]
    seconds, tokens = (sum(row[key] for row in timed) for key in ("seconds", "tokens"))
    return {
        "experiment": path.parent.name,
        "split": path.stem,
        "samples": len(rows),
        "per_sample": seconds / len(timed) if timed else None,
        "tokens": tokens / seconds if seconds else None,
    }


def duration(seconds: float) -> str:
    """As a person says it: 0.4 s, 12 s, 3 min 5 s, 2 h 7 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min"
