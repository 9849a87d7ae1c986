"""Write the report: `write_report(report/index.html, ...)` from the files of the other stages.

One self-contained page: styles, charts (SVG), pictures (data URIs) and a small script are inside; no network. Text from
data passes `template.render`, whatever it says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from radtune.files import read_json, read_jsonl, write_text
from radtune.report import figures, found, gallery, mistakes
from radtune.report.costs import costs, duration
from radtune.report.data_section import data_section
from radtune.report.provenance import provenance
from radtune.report.switches import METRICS, switches
from radtune.report.template import render
from radtune.report.verdict import BASE, FLOORS, Evaluation, as_score, as_signed, as_span, cautions, rank, verdict
from radtune.report.wording_section import wording_section
from radtune.report.words import join, t

OWN = ("blank", "copied")  # floors that are an experiment's own
CHARTS = {
    "rouge_l": "ROUGE-L",
    "semantic": t("Meaning (LSA)"),
    "slots": t("Place and density words"),
    "iou": t("Box overlap (IoU)"),
}
HEADLINE = CHARTS | {
    "laterality": t("Side"),
    "finding_f1": t("Findings (F1)"),
    "bleu": "sacreBLEU",
    "llamafactory_bleu_4": t("LLaMA-Factory BLEU-4 (characters)"),
}


def write_report(
    out: Path,
    *,
    config: Path,
    evaluations: list[Path],
    sample_scores: list[Path],
    differences: Path,
    predictions: list[Path],
    leakage: Path,
    quarantine: Path,
    checks: Path,
    disagreements: Path,
    samples_table: Path,
    media_dir: Path,
    title: str,
    trainings: list[Path] | None = None,
    benchmarks: Path | None = None,
    manifest: Path | None = None,
    models: Path | None = None,
    locks: Path | None = None,
    run: Path | None = None,
    wording: Path | None = None,
    cleaned: list[Path] | None = None,
) -> None:
    """Write the page. An experiment is named by the folder its evaluation, scores, predictions and training lie in.

    `benchmarks`: see costs(); `manifest`, `models`, `locks` and `run`: see provenance(); `wording` and
    `cleaned`: see wording_section(). What is not given is left out.
    """
    results = [Evaluation(p.parent.name, _split(p), read_json(p)) for p in evaluations]
    splits = list(dict.fromkeys(r.split for r in results))
    main = "test" if "test" in splits else splits[0]
    ranked = rank([r for r in results if r.split == main])
    best = ranked[0]

    answers = {(p.parent.name, _split(p)): p for p in predictions}
    scores = {(p.parent.name, _split(p)): p for p in sample_scores}
    said = {name: read_jsonl(path) for (name, split), path in answers.items() if split == main}
    others = {
        name: {(row["id"], row["tag"]): row["prediction"] for row in rows}
        for name, rows in said.items()
        if name != best.experiment
    }
    # of the best experiment with retrieval: the page's size stays that of one
    retrieved = next((r.experiment for r in ranked if any("cases" in row for row in said[r.experiment])), None)
    similar = {(row["id"], row["tag"]): row.get("cases", ()) for row in said[retrieved]} if retrieved else {}
    key = best.experiment, main
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    compared = read_json(differences)
    rows, sampled = said[best.experiment], _read_scores(scores[key])
    reworded = {r.experiment: r.content["reworded"] for r in results if r.split == main and "reworded" in r.content}
    overall = {r.experiment: r.content["overall"]["metrics"] for r in results if r.split == main}
    switched = switches(settings, compared["differences"], main, overall)
    doubts = mistakes.contradictions(rows, sampled)
    cards = gallery.cards(rows, sampled, others, doubts, similar)

    data = data_section(
        samples_table=samples_table,
        quarantine=quarantine,
        leakage=leakage,
        checks=checks,
        disagreements=disagreements,
    )
    html = render(
        "report.html.j2",
        {"score": as_score, "span": as_span, "signed": as_signed, "duration": duration},
        title=title,
        verdict=verdict(ranked, compared["differences"]),
        cautions=data["cautions"] + cautions(results, main),
        main=main,
        best=best.experiment,
        headline={k: v for k, v in HEADLINE.items() if any(r.metric(k) for r in results)},
        tables=[(split, _score_table([r for r in results if r.split == split])) for split in splits],
        reworded=reworded,
        reworded_metrics={k: v for k, v in HEADLINE.items() if any(k in of["metrics"] for of in reworded.values())},
        charts=_score_charts([r for r in results if r.split == main]),
        tags=_tag_table([r for r in results if r.split == main]),
        switches=switched,
        switch_metrics={k: v for k, v in METRICS.items() if any(row["effects"][k] for row in switched)},
        differences=_differences(compared, best.experiment),
        results=results,
        losses=_losses(trainings or []),
        mistakes=[*mistakes.confusions(rows), (t("Length of answers"), mistakes.lengths(rows))],
        places=found.by_place({name: path for (name, split), path in scores.items() if split == main}),
        sizes=found.by_size(overall, BASE),
        cards=cards,
        retrieved=retrieved,
        pictures=gallery.pictures(cards, media_dir),
        answers=len(rows),
        doubts=len(doubts),
        kinds=gallery.KINDS,
        floors=FLOORS,
        data=data,
        wording=wording_section(wording, cleaned or [], settings.get("experiments", {})) if wording else None,
        costs=costs(benchmarks, trainings or [], predictions, settings.get("budget", {}).get("price_per_hour")),
        origin=provenance(settings, manifest=manifest, models=models, trainings=trainings or [], locks=locks, run=run),
        config=config.read_text(encoding="utf-8"),
    )
    write_text(out, html)


def _split(path: Path) -> str:
    return path.name.split(".")[0]  # test of test.json, test.jsonl and test.samples.parquet


# --- scores ---------------------------------------------------------------------------------------------------------


def _score_table(results: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """A row per experiment, then one per floor."""
    rows = [
        {"label": r.experiment, "kind": "base" if r.experiment == BASE else "model", "n": r.content["n"]}
        | {name: (m["value"], m["interval"]) if (m := r.metric(name)) else None for name in HEADLINE}
        for r in results
    ]
    for r in results:
        metrics = r.content["overall"]["metrics"]
        for floor, of in metrics["rouge_l"]["floors"].items():
            if r is results[0] or floor in OWN:  # the others are the same for every experiment
                found = {name: metrics[name]["floors"].get(floor) if name in metrics else None for name in HEADLINE}
                cells = {name: (of["value"], of["interval"]) if of else None for name, of in found.items()}
                label = join([r.experiment, FLOORS[floor]], ", ") if floor in OWN else FLOORS[floor]
                rows.append({"label": label, "kind": "floor", "n": of["n"]} | cells)
    return rows


def _score_charts(results: Sequence[Evaluation]) -> list[tuple[str, str]]:
    charts = []
    for name, label in CHARTS.items():
        marks = [
            figures.Mark(row["label"], row["kind"], value, interval)
            for row in _score_table(results)
            if row[name] and (value := row[name][0]) is not None
            for interval in [row[name][1]]
        ]
        if marks:
            charts.append((label, figures.score_chart(label, marks)))
    return charts


def _differences(found: dict[str, Any], best: str) -> dict[str, Any]:
    """compare's findings in words: those of the best experiment, and the others, as pairs grow with the square."""
    rows = []
    for row in found["differences"]:
        says = t("{name} is better", name=row["better"]) if row["better"] else t("no difference shown")
        rows.append(row | {"says": says, "p": t("below 0.001") if row["p"] < 0.001 else f"{row['p']:.3f}"})
    of_best = [row for row in rows if best in (row["of"], row["minus"])]
    return found | {"of_best": of_best, "others": [row for row in rows if row not in of_best]}


def _tag_table(results: Sequence[Evaluation]) -> dict[str, list[dict[str, Any]]]:
    """tag -> a row per experiment with the metrics of that tag."""
    tags: dict[str, list[dict[str, Any]]] = {}
    for r in results:
        for tag, block in r.content["tags"].items():
            tags.setdefault(tag, []).append({"experiment": r.experiment, **block})
    return dict(sorted(tags.items()))


def _read_scores(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    columns = ["id", "tag", "rouge_l", "iou", "slots", "laterality", "box_reference", "box_prediction"]
    rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    return rows


# --- training, provenance -------------------------------------------------------------------------------------------


def _losses(trainings: Sequence[Path]) -> list[dict[str, Any]]:
    """Loss curves and last values; a step logged twice, as after a resume, counts once, the later line holding."""
    runs: list[dict[str, Any]] = []
    for folder in trainings:
        lines = read_jsonl(log) if (log := folder / "trainer_log.jsonl").exists() else []
        curves = {
            key: sorted({line["step"]: line[key] for line in lines if line.get(key) is not None}.items())
            for key in ("loss", "eval_loss")
        }
        summary = read_json(path) if (path := folder / "summary.json").exists() else {}
        runs.append({"experiment": folder.name, **curves, "summary": _flat(summary)})
    top = max((loss for run in runs for key in ("loss", "eval_loss") for _, loss in run[key]), default=1.0) * 1.05
    for run in runs:
        run["last"] = run["loss"][-1][1] if run["loss"] else None
        run["last_eval"] = run["eval_loss"][-1][1] if run["eval_loss"] else None
        run["perplexity"] = math.exp(min(run["last_eval"], 50)) if run["last_eval"] is not None else None
        drawn = run["loss"] or run["eval_loss"]
        run["chart"] = figures.loss_chart(run["experiment"], run["loss"], run["eval_loss"], top) if drawn else None
    return runs


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by ": ", lists as JSON."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            flat |= _flat(inner, f"{prefix}{key}: ")
        else:
            flat[f"{prefix}{key}"] = json.dumps(inner, ensure_ascii=False) if isinstance(inner, list) else inner
    return flat
