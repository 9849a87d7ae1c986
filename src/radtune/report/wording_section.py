"""What is wrong with the wording of the texts, and what was done about it: fills wording.html.j2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from radtune.files import read_json
from radtune.report import figures
from radtune.report.words import join, said, t
from radtune.shards import SPLITS

FIXED = ("chatty", "vague", "empty", "boilerplate")  # kinds whose notes are our own words, not the data's


def wording_section(wording: Path, cleaned: Sequence[Path], experiments: Mapping[str, Any]) -> dict[str, Any]:
    """The values of wording.html.j2; `cleaned` are the summaries of radtune clean, `experiments` the config's."""
    found: dict[str, Any] = read_json(wording)
    for kind, of in found["kinds"].items():
        for row in of["examples"]:
            row["note"] = said(row["note"]) if kind in FIXED else row["note"]
    users = {path: [name for name, of in experiments.items() if of.get("cleaned") == path.stem] for path in cleaned}
    return found | {"names": SPLITS, "cleaned": [_told(read_json(path), users[path]) for path in cleaned]}


def _told(summary: dict[str, Any], users: Sequence[str]) -> dict[str, Any]:
    """A summary of radtune clean with its rows in total and, of rewriting, the chart of similarities."""
    rows = {
        action: sum(split.get(action, 0) for split in summary["splits"].values())
        for action in ("drop", "rewrite", "keep")
    }
    told = summary | {
        "users": join(users, ", "),
        "done": rows,
        "of": sum(s["rows"] for s in summary["splits"].values()),
    }
    if summary["action"] != "rewrite":
        return told
    near = {t("rewritten"): summary["similarity"]["rewritten"], t("refused"): summary["similarity"]["refused"]}
    values: dict[str, Any] = {name: np.array(of) for name, of in near.items() if of}
    title = t("Similarity of rewrites to their originals")
    chart = figures.spread_chart(title, values, t("similarity")) if values else None
    refused = [(said(summary["reasons"][code]), n) for code, n in summary["texts"]["refused"].items()]
    return told | {"title": title, "chart": chart, "refused": refused}
