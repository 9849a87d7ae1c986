"""Score predictions: every metric for the model and for floors that never saw the image, overall and for each tag.

radtune evaluate --predictions lora/test.jsonl --train train.json --neighbours neighbours.parquet \\
    --geometry geometry/*.parquet --out test.json --samples test.samples.parquet

Scores run from 0 to 100, but for `area_error` (percentage points), `centre_error_px` (pixels) and numbers of findings.
Intervals come from resampling whole groups, because samples of one group are no independent evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radtune.evaluate import baselines, bootstrap, boxes, clinical, records, reworded, semantic, slots, text
from radtune.files import UserError, read_json, replacing, write_json
from radtune.frames import Letterbox, read_geometry
from radtune.language.meaning import Space
from radtune.language.words import mostly_chinese

LOWER = {"area_error", "area_missing", "box_unparsed", "findings_invented", "findings_missed"} | {
    name for name in boxes.signatures(True) if name.startswith("centre_error")
}  # where less is better

Floats = NDArray[np.float64]
# metric -> a value a sample or, of those in TOTALS, a row of counts. NaN: does not apply.
Columns = dict[str, Floats]
# metrics of all samples together, from rows of their counts' sums
TOTALS: dict[str, Callable[[Floats], Floats]] = {
    "bleu": text.corpus_bleu,
    **{f"bleu_{n}": partial(text.corpus_bleu, order=n) for n in (1, 2, 3)},
    "finding_f1": clinical.f1,
    "finding_precision": clinical.precision,
    "finding_recall": clinical.recall,
    "anatomy_f1": clinical.f1,
}
COUNTS = {"bleu_counts": 10, "finding_counts": 3, "anatomy_counts": 3}  # numbers a sample


def evaluate(
    predictions: Path,
    out: Path,
    samples: Path,
    *,
    train: Path | None = None,
    neighbours: Path | None = None,
    blank: Path | None = None,
    unseen: Path | None = None,
    embedding: Path | None = None,
    geometry: list[Path] | None = None,
    box: str = "qwen3vl",
) -> None:
    """Write `out` (JSON) and `samples` (parquet, row i = line i of `predictions`).

    `train`, the ShareGPT file that was trained on, `neighbours`, of find_neighbours(), and `blank`, predictions of some
    of the samples without their pictures, make further floors; without `train` there is no `semantic`. `unseen`,
    predictions of some of the samples in other words, makes `reworded`. `embedding`, of embed(), adds its score. With
    `geometry`, the images' tables of every shard, boxes are compared in the original image; `box` is the form of the
    answers, as in the config's answers.box.
    `out`: experiment, split, n, groups, empty and unfinished (numbers of answers), overall (see `block`), tags ({tag:
    block}), reworded (see reworded.block), signatures ({metric: what it is}).
    Raises UserError, naming file and line, when `predictions` is empty or a line lacks what is needed.
    """
    rows = baselines.read_predictions(predictions)
    chinese = mostly_chinese([row["reference"] for row in rows])
    trained_on = read_json(train) if train else []
    space = semantic.fit(baselines.answer(record) for record in trained_on)
    answers: dict[str, Sequence[str | None]] = {"": [row["prediction"] for row in rows]}
    answers |= baselines.floors(rows, trained_on, neighbours, blank)
    if unseen:
        answers[reworded.NAME] = baselines.others(unseen, rows)
    floors = _columns(rows, answers, chinese=chinese, frames=_frames(rows, geometry, box), space=space)
    model, other = floors.pop(""), floors.pop(reworded.NAME, None)
    encoder = _add_embedding(embedding, {"": model} | floors) if embedding else {}
    tags, groups = (np.array([row[key] for row in rows]) for key in ("tag", "group"))

    also, asked_otherwise = {}, {}
    if other:
        also[reworded.NAME] = reworded.block(groups, rows, answers[reworded.NAME], model, other, TOTALS)
        asked_otherwise = {reworded.NAME: {name: other[name] for name in reworded.METRICS if name in other}}

    def part(of: NDArray[np.bool_]) -> dict[str, Any]:
        ours, *theirs = ({name: values[of] for name, values in c.items()} for c in (model, *floors.values()))
        return block(groups[of], ours, dict(zip(floors, theirs, strict=True)))

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
            **also,
            "signatures": {
                "bleu": f"sacreBLEU corpus BLEU, {text.bleu_signature(chinese)}",
                **{f"bleu_{n}": f"the same up to {n}-grams" for n in (1, 2, 3)},
                **text.signatures(chinese),
                **({"semantic": semantic.signature(space)} if space else {}),
                **encoder,
                **slots.SIGNATURES,
                **clinical.SIGNATURES,
                **records.SIGNATURES,
                **(reworded.SIGNATURE if other else {}),
                **boxes.signatures(bool(geometry)),
                "floors": {name: baselines.FLOORS[name] for name in floors},
                "interval": bootstrap.SIGNATURE,
            },
        },
    )
    _write_samples(samples, rows, model, floors | asked_otherwise)


def _frames(rows: list[dict[str, Any]], geometry: list[Path] | None, form: str) -> list[tuple[Letterbox | None, str]]:
    """Of each sample what boxes.read needs beside the answer."""
    if not geometry:
        return [(None, form)] * len(rows)
    places = {file: place for _, file, place in read_geometry(geometry)}
    images = ["/".join(str(row.get("image")).split("/")[-2:]) for row in rows]  # SHARD/FILE
    if missing := set(images) - places.keys():
        raise UserError(f"No image {min(missing)} in {', '.join(map(str, geometry))}; make them from the same samples.")
    return [(places[image], form) for image in images]


def _add_embedding(path: Path, columns: dict[str, Columns]) -> dict[str, str]:
    """Add embed()'s score to the columns of the model ("") and of each floor; its signature."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    names = {name or "prediction" for name in columns}
    if not names <= set(table.column_names) or table.num_rows != len(columns[""]["rouge_l"]):
        raise UserError(f"{path} is of other predictions or floors; make it again from the same files: radtune embed.")
    for name, of in columns.items():
        of["embedding"] = table[name or "prediction"].to_numpy()
    return {"embedding": table.schema.metadata[b"signature"].decode()}


def block(groups: NDArray[np.str_], model: Columns, floors: Mapping[str, Columns]) -> dict[str, Any]:
    """Scores over some samples: {"n", "groups", "metrics": {metric: {...}}}; a metric that applies nowhere is left out.

    A metric holds `value`, `n`, `groups`, `interval` of the model over the samples it applies to; `floors`, {floor:
    {value, n, interval, lift, lift_interval, better}}; of the best of them `floor_name`, `floor`, `floor_n`,
    `floor_interval`, `lift`, `lift_interval`. A lift is model minus floor on the samples that have both, and `better`
    whether the model is the better one, None where the interval does not say. None where there is nothing to say.
    """
    metrics = {}
    numbers = np.unique(groups, return_inverse=True)[1]  # in the order of the names, and sooner told apart
    for name, ours in model.items():
        total = TOTALS.get(name)
        value, n, n_groups, interval = bootstrap.summary(numbers, ours, total=total)
        if value is None:
            continue
        sign = -1 if name in LOWER else 1
        found: dict[str, dict[str, Any]] = {}
        for floor, columns in floors.items():
            theirs, floor_n, _, floor_interval = bootstrap.summary(numbers, columns[name], total=total)
            if theirs is not None:
                lift, _, _, span = bootstrap.summary(numbers, ours, columns[name], total=total)
                better = sign * span[0] > 0 if span and span[0] * span[1] > 0 else None
                found[floor] = {"value": theirs, "n": floor_n, "interval": floor_interval}
                found[floor] |= {"lift": lift, "lift_interval": span, "better": better}
        best = max(found, key=lambda floor: sign * found[floor]["value"], default=None)
        chosen = found[best] if best else dict.fromkeys(("value", "interval", "lift", "lift_interval")) | {"n": 0}
        metrics[name] = {
            "value": value,
            "n": n,
            "groups": n_groups,
            "interval": interval,
            "floors": found,
            "floor_name": best,
            "floor": chosen["value"],
            "floor_n": chosen["n"],
            "floor_interval": chosen["interval"],
            "lift": chosen["lift"],
            "lift_interval": chosen["lift_interval"],
        }
    return {"n": len(groups), "groups": len(set(groups)), "metrics": metrics}


def _columns(
    rows: Sequence[Mapping[str, str]],
    answers: Mapping[str, Sequence[str | None]],
    *,
    chinese: bool,
    frames: Sequence[tuple[Letterbox | None, str]],
    space: Space | None,
) -> dict[str, Columns]:
    """The scores of each of `answers`, the model's and the floors', None where one has no answer to a sample."""
    pairs: dict[str, list[dict[str, Any]]] = {name: [] for name in answers}
    for i, row in enumerate(rows):  # all answers to a sample, while what is counted in its reference is kept
        for name, said in answers.items():
            answer = said[i]
            pairs[name].append({} if answer is None else _pair(answer, row["reference"], frames[i], chinese))
    names = [*text.signatures(chinese), *slots.SIGNATURES, *clinical.SIGNATURES, *records.SIGNATURES]
    names = [name for name in (*names, *boxes.signatures(True)) if name not in TOTALS]
    references = [row["reference"] for row in rows]
    columns = {}
    for of, scored in pairs.items():
        counted = {
            name: np.array([pair.get(name, [np.nan] * width) for pair in scored], np.float64)
            for name, width in COUNTS.items()
        }
        columns[of] = {name: counted[f"{name.split('_')[0]}_counts"] for name in TOTALS}
        if space:
            columns[of]["semantic"] = semantic.scores(space, answers[of], references)
        columns[of] |= {name: np.array([pair.get(name, np.nan) for pair in scored], np.float64) for name in names}
    return columns


def _pair(answer: str, reference: str, frame: tuple[Letterbox | None, str], chinese: bool) -> dict[str, Any]:
    """Scores of one answer and, under the names of COUNTS, what TOTALS sum; those alone that apply."""
    pair = answer, reference
    found: dict[str, Any] = text.scores(*pair) | slots.scores(*pair) | clinical.scores(*pair)
    found |= records.scores(*pair, *frame) | boxes.scores(*pair, *frame)
    counts = {"bleu": text.bleu_counts(*pair, chinese)} | clinical.counts(*pair)
    return found | {f"{name}_counts": of for name, of in counts.items()}


def _write_samples(
    path: Path, rows: Sequence[Mapping[str, str]], model: Columns, floors: Mapping[str, Columns]
) -> None:
    """Per-sample scores; `{floor}_` columns are a floor's, `reworded_` those in other words; boxes are x1, y1, x2, y2
    in 0..1000 of the picture.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {key: pa.array([row[key] for row in rows], pa.string()) for key in ("id", "tag", "group")}
    for prefix, scores in (("", model), *((f"{floor}_", columns) for floor, columns in floors.items())):
        columns |= {prefix + name: pa.array(v, from_pandas=True) for name, v in scores.items() if name not in TOTALS}
    truths = [boxes.parse(row["reference"]) for row in rows]
    answers = [boxes.parse(row["prediction"]) if truth else None for row, truth in zip(rows, truths, strict=True)]
    for name, found in (("reference", truths), ("prediction", answers)):
        columns[f"box_{name}"] = pa.array([box.edges if box else None for box in found], pa.list_(pa.float64()))
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
