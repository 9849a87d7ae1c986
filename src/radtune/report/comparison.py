"""The page of `radtune compare`: what two results folders differ in, from what evaluate.between found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radtune.files import write_text
from radtune.report.template import render


def write_comparison(found: Mapping[str, Any], out: Path) -> None:
    """Write one self-contained page of between()'s findings."""
    filters = {"score": "{:.2f}".format, "signed": lambda value: f"{value:+.2f}".replace("-", "−")}
    write_text(out, render("comparison.html.j2", filters, **found))
