"""Score predictions: every metric for the model and for a floor that never saw the image, overall and for each tag.

`evaluate(predict/NAME/SPLIT.jsonl, evaluate/NAME/SPLIT.json, evaluate/NAME/SPLIT.samples.parquet)`

Scores run from 0 to 100, but for `area_error` (percentage points). Intervals come from resampling whole groups,
because samples of one group are no independent evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radtune.evaluate import baselines, boxes, slots, text
from radtune.files import UserError, replacing, write_json

SEED = 0
RESAMPLES = 2000
_REQUIRED = ("id", "tag", "group", "prediction", "reference")

Floats = NDArray[np.float64]
# metric -> a value a sample; under "bleu" a row of ten counts a sample, as text.bleu_counts gives. NaN: does not apply.
Columns = dict[str, Floats]


def evaluate(predictions: Path, out: Path, samples: Path) -> None:
    """Write `out` (JSON) and `samples` (parquet, row i = line i of `predictions`).

    `out`: experiment, split, n, groups, empty and unfinished (numbers of answers), overall (see `block`), tags
    ({tag: block}), signatures ({metric: what it is}).
    Raises UserError, naming file and line, when `predictions` is empty or a line lacks what is needed.
    """
    rows = _read(predictions)
    chinese = text.mostly_chinese([row["reference"] for row in rows])
    model = _columns(rows, [row["prediction"] for row in rows], chinese)
    floor = _columns(rows, baselines.shuffled(rows, SEED), chinese)
    tags, groups = (np.array([row[key] for row in rows]) for key in ("tag", "group"))

    def part(of: NDArray[np.bool_]) -> dict[str, Any]:
        return block(groups[of], *({name: values[of] for name, values in c.items()} for c in (model, floor)))

    write_json(
        out,
        {
            "experiment": predictions.parent.name,
            "split": predictions.stem,
            "n": len(rows),
            "groups": len(set(groups)),
            "empty": sum(not row["prediction"].strip() for row in rows),
            "unfinished": sum(row.get("stopped") is False for row in rows),
            "overall": part(np.ones(len(rows), bool)),
            "tags": {str(tag): part(tags == tag) for tag in np.unique(tags)},
            "signatures": {
                "bleu": f"sacreBLEU corpus BLEU, {text.bleu_signature(chinese)}",
                **text.signatures(chinese),
                **slots.SIGNATURES,
                **boxes.SIGNATURES,
                "floor": f"{baselines.SHUFFLED}, seed {SEED}",
                "interval": f"95 %, percentile bootstrap over groups, {RESAMPLES} resamples, numpy {version('numpy')}, "
                f"seed {SEED}; none below two groups",
            },
        },
    )
    _write_samples(samples, rows, model, floor)


def block(groups: NDArray[np.str_], model: Columns, floor: Columns) -> dict[str, Any]:
    """Scores over some samples: {"n", "groups", "metrics": {metric: {...}}}; a metric that applies nowhere is left out.

    A metric holds `value`, `n`, `groups`, `interval` of the model over the samples it applies to; `floor`, `floor_n`,
    `floor_interval`; and `lift`, `lift_interval`: model minus floor on the samples that have both. None where there is
    nothing to say.
    """
    metrics = {}
    for name, ours in model.items():
        theirs = floor[name]
        value, n, n_groups, interval = _summary(groups, ours)
        if value is None:
            continue
        floor_value, floor_n, _, floor_interval = _summary(groups, theirs)
        lift, _, _, lift_interval = _summary(groups, ours, theirs)
        metrics[name] = {
            "value": value,
            "n": n,
            "groups": n_groups,
            "interval": interval,
            "floor": floor_value,
            "floor_n": floor_n,
            "floor_interval": floor_interval,
            "lift": lift,
            "lift_interval": lift_interval,
        }
    return {"n": len(groups), "groups": len(set(groups)), "metrics": metrics}


def _summary(
    groups: NDArray[np.str_], values: Floats, minus: Floats | None = None
) -> tuple[float | None, int, int, list[float] | None]:
    """Score of the samples that have one, their number, that of their groups, and a 95 % interval over groups.

    With `minus`, the difference of two scores over the samples that have both, resampled together.
    """
    both = [values] if minus is None else [values, minus]
    there = ~np.any([np.isnan(v).reshape(len(v), -1).any(axis=1) for v in both], axis=0)
    if not there.any():
        return None, 0, 0, None
    both = [v[there] for v in both]
    names, index = np.unique(groups[there], return_inverse=True)
    difference = float(np.subtract.reduce([_score(v) for v in both]))
    if len(names) < 2:
        return difference, int(there.sum()), len(names), None
    resampled = np.subtract.reduce([_resampled(v, index) for v in both])
    interval = [float(v) for v in np.percentile(resampled, [2.5, 97.5])]
    return difference, int(there.sum()), len(names), interval


def _score(values: Floats) -> float:
    return float(np.mean(values)) if values.ndim == 1 else text.corpus_bleu(values.sum(axis=0))


def _resampled(values: Floats, index: NDArray[np.intp]) -> Floats:
    """The score in each of RESAMPLES draws of whole groups; `index` is the group of each sample, 0..n-1."""
    counts = np.stack([values, np.ones(len(values))], axis=1) if values.ndim == 1 else values
    sums = np.stack([np.bincount(index, column) for column in counts.T], axis=1)
    totals = _draws(len(sums)) @ sums
    return totals[:, 0] / totals[:, 1] if values.ndim == 1 else np.array([text.corpus_bleu(row) for row in totals])


@lru_cache(maxsize=4)
def _draws(n_groups: int) -> Floats:
    """RESAMPLES x n_groups: how often each group is drawn in each resample."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=RESAMPLES).astype(np.float64)


def _read(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error}); predict this split again") from None
        wrong = [key for key in _REQUIRED if not isinstance(row, dict) or not isinstance(row.get(key), str)]
        if wrong:
            raise UserError(f"{path}, line {number}: needs text under {', '.join(wrong)}; predict this split again")
        rows.append(row)
    if not rows:
        raise UserError(f"{path} holds no prediction; check that this split has samples, then predict it again")
    return rows


def _columns(rows: Sequence[Mapping[str, str]], answers: Sequence[str | None], chinese: bool) -> Columns:
    scored: list[dict[str, float]] = []
    bleu = np.full((len(rows), 10), np.nan)
    for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if answer is None:
            scored.append({})
            continue
        pair = answer, row["reference"]
        scored.append(text.scores(*pair) | slots.scores(*pair) | boxes.scores(*pair))
        bleu[i] = text.bleu_counts(*pair, chinese)
    names = [*text.signatures(chinese), *slots.SIGNATURES, *boxes.SIGNATURES]
    return {"bleu": bleu} | {name: np.array([s.get(name, np.nan) for s in scored], np.float64) for name in names}


def _write_samples(path: Path, rows: Sequence[Mapping[str, str]], model: Columns, floor: Columns) -> None:
    """Per-sample scores; `floor_` columns are the floor's; boxes are x1, y1, x2, y2 in 0..1000 of the picture."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {key: pa.array([row[key] for row in rows], pa.string()) for key in ("id", "tag", "group")}
    for prefix, scores in (("", model), ("floor_", floor)):
        columns |= {prefix + name: pa.array(v, from_pandas=True) for name, v in scores.items() if name != "bleu"}
    truths = [boxes.parse(row["reference"]) for row in rows]
    answers = [boxes.parse(row["prediction"]) if truth else None for row, truth in zip(rows, truths, strict=True)]
    columns["box_reference"] = pa.array(truths, pa.list_(pa.float64()))
    columns["box_prediction"] = pa.array(answers, pa.list_(pa.float64()))
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
