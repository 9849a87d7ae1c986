"""Where the references' boxes lie and how well each experiment finds them, by place and by size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radtune.report import figures
from radtune.report.words import t

# evaluate's; a metric's signature states the cuts
SIZES = {"small": t("small boxes"), "medium": t("medium boxes"), "large": t("large boxes")}

Cells = npt.NDArray[np.float64]  # CELLS x CELLS, from upper to bottom, each from left to right


def by_place(scores: Mapping[str, Path]) -> list[tuple[str, str]]:
    """(experiment, SVG) of {experiment: its SPLIT.samples.parquet}, for those with boxes."""
    maps = [(name, cells(path)) for name, path in scores.items()]
    return [(name, figures.cell_map(t("Boxes of {name}", name=name), *found)) for name, found in maps if found[1].any()]


def cells(path: Path) -> tuple[Cells, Cells]:
    """Mean IoU, 0 to 100, and number of the reference boxes whose centres lie in each cell; NaN where none does."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["iou", "box_reference"]).to_pydict()
    sums, counts = np.zeros((2, figures.CELLS, figures.CELLS))
    for iou, box in zip(table["iou"], table["box_reference"], strict=True):
        if box is None or iou is None:
            continue
        centre = (box[0] + box[2]) / 2000, (box[1] + box[3]) / 2000  # of 0..1000
        column, row = (min(int(part * figures.CELLS), figures.CELLS - 1) for part in centre)
        sums[row, column] += iou
        counts[row, column] += 1
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0), counts


def by_size(metrics: Mapping[str, Mapping[str, Any]], base: str) -> list[tuple[str, str]]:
    """(size, SVG) of Acc@0.5, from {experiment: its metrics}, for the sizes that these tell apart."""
    charts: list[tuple[str, str]] = []
    for size, boxes in SIZES.items():
        key = f"acc_50_{size}"
        found = {name: of[key] for name, of in metrics.items() if key in of}
        marks = [
            figures.Mark(f"{name} ({of['n']:,})", "base" if name == base else "model", of["value"], of["interval"])
            for name, of in found.items()
        ]
        if marks:
            charts.append((boxes, figures.score_chart(t("Acc@0.5 of {boxes}", boxes=boxes), marks)))
    return charts
