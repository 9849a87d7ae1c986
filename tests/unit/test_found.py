"""Boxes by place and by size: values worked out by hand, and charts that say them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radtune.report.found import by_place, by_size, cells


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    boxes = [
        ([0, 0, 200, 200], 50.0),  # centre 0.1, 0.1: the first cell
        ([100, 0, 280, 100], 100.0),  # centre 0.19, 0.05: the same
        ([900, 300, 1000, 500], 10.0),  # centre 0.95, 0.4: the third row, as a border belongs to what lies behind it
        ([1000, 999, 1000, 1001], 20.0),  # centre 1, 1: the last cell
        (None, 70.0),
        ([400, 400, 600, 600], None),
    ]
    columns = {"box_reference": [box for box, _ in boxes], "iou": [iou for _, iou in boxes]}
    pq.write_table(pa.table(columns), tmp_path / "test.samples.parquet")
    return tmp_path / "test.samples.parquet"


def test_boxes_count_where_their_references_lie(scores: Path) -> None:
    values, counts = cells(scores)
    expected = np.zeros((5, 5))
    expected[0, 0], expected[2, 4], expected[4, 4] = 2, 1, 1
    assert (counts == expected).all()
    assert (values[0, 0], values[2, 4], values[4, 4]) == (75, 10, 20)
    assert np.isnan(values).sum() == 22


def test_the_map_says_its_figures_and_leaves_out_who_has_no_boxes(scores: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.parquet"
    pq.write_table(
        pa.table({"iou": pa.array([None], pa.float64()), "box_reference": pa.array([None], pa.null())}), none
    )
    ((name, svg),) = by_place({"lora": scores, "base": none})
    assert name == "lora"
    assert "75 (2), –, –, –, –; –," in svg
    assert "–, –, –, –, 10 (1)" in svg


def test_sizes_are_those_that_the_scores_tell_apart() -> None:
    metric = {"value": 25.0, "n": 1200, "interval": [20.0, 30.0]}
    charts = dict(
        by_size({"base": {"acc_50_small": metric}, "lora": {"acc_50_small": metric | {"value": 75.0}}}, "base")
    )
    assert list(charts) == ["small boxes"]
    assert "base (1,200) 25.0; lora (1,200) 75.0" in charts["small boxes"]
    assert by_size({"base": {"iou": metric}}, "base") == []
