"""The model card of an experiment, in Markdown as hubs show it, written from the run's own figures.

radtune card --experiment lora --training train/lora/ --evaluations evaluate/*/test.json ... --out README.md
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from radtune.files import read_json, write_text
from radtune.report import page, verdict
from radtune.report.data_section import exposure, rows_of
from radtune.report.template import render

PLACES = (
    "model_name_or_path",
    "adapter_name_or_path",
    "dataset",
    "dataset_dir",
    "media_dir",
    "eval_dataset",
    "output_dir",
)
WRITTEN = {
    "phantom": "Images and reference texts were drawn and worded by a program; no patient is behind them.",
    "mychen76/medtrinity_brain_30k_hf": "The reference texts were written by a machine (those of MedTrinity): a score "
    "says how near the model comes to that machine, not to a radiologist.",
}
UNKNOWN = "Who wrote the reference texts radtune cannot know; a score says how near the model comes to those."


def write_card(
    out: Path,
    *,
    experiment: str,
    config: Path,
    evaluations: list[Path],
    training: Path,
    manifest: Path,
    samples_table: Path,
    quarantine: Path,
    leakage: Path,
    checks: Path,
    cleaned: Path | None = None,
) -> None:
    """Write the card. `evaluations`: of the experiment and of the untuned base; `training`: the experiment's folder;
    `cleaned`: what radtune clean says of its texts.
    """
    found = yaml.safe_load(config.read_text(encoding="utf-8"))
    results = [verdict.Evaluation(p.parent.name, p.stem, read_json(p)) for p in evaluations]
    own = [r for r in results if r.experiment == experiment]
    base = {r.split: r for r in results if r.experiment == verdict.BASE}
    model, source = found["experiments"][experiment]["model"], read_json(manifest)
    name = {"tiny": "a tiny random Qwen3-VL"}.get(model["source"]) or model["path"] or model["repo"]
    from_hub = model["source"] in ("huggingface", "modelscope")
    origin = found["dataset"]["source"]
    repo = source["repo"] if origin in ("huggingface", "modelscope") else ""
    seen, cautions = exposure(read_json(leakage))
    settings = yaml.safe_load((training / "train.yaml").read_text(encoding="utf-8"))
    rows = rows_of(samples_table, quarantine, read_json(checks)["split"])
    head = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["radiology", "llama-factory", "lora", "research"],
        **({"base_model": model["repo"]} if from_hub else {}),
        **({"datasets": [repo]} if repo else {}),
    }
    text = render(
        "card.md.j2",
        head=yaml.safe_dump(head, sort_keys=False),
        experiment=experiment,
        base=name,
        revision=model["revision"] if from_hub else "",
        cautions=cautions + verdict.cautions(own, own[0].split),
        data=rows
        | {"name": repo or {"phantom": "drawn phantoms"}.get(origin, "local data"), "shards": len(source["shards"])}
        | {"revision": source["revision"], "reasons": ", ".join(f"{code} {n}" for code, n in rows["reasons"])},
        written=WRITTEN.get(origin) or WRITTEN.get(repo, UNKNOWN),
        seen=seen,
        cleaned=_cleaned(read_json(cleaned)) if cleaned else "",
        scores=[(r.split, r.content["n"], r.content["groups"], _scores(r, base.get(r.split))) for r in own],
        floors=", ".join(
            dict.fromkeys(verdict.FLOORS[name] for r in own for name in r.content["signatures"]["floors"])
        ),
        trained=_trained(read_json(training / "summary.json")),
        settings=yaml.safe_dump({k: v for k, v in settings.items() if k not in PLACES}, sort_keys=False).strip(),
    )
    write_text(out, text)


def _cleaned(told: Mapping[str, Any]) -> str:
    """What was done to the wording of the texts, in a sentence."""
    done = [
        f"of {split} {of.get('drop', 0):,} samples were left out and {of.get('rewrite', 0):,} rewritten"
        for split, of in told["splits"].items()
    ]
    by = f" by {told['model']}" if told["action"] == "rewrite" else ""
    return f"For their wording ({', '.join(told['kinds'])}), {'; '.join(done)}{by}; the test split stayed as it was."


def _scores(tuned: verdict.Evaluation, base: verdict.Evaluation | None) -> list[dict[str, str]]:
    """A row for each headline metric, as text."""
    rows = []
    for name, label in page.HEADLINE.items():
        if found := tuned.metric(name):
            other = base.metric(name) if base else None
            cells = {"score": _with(found, "value"), "base": _with(other, "value") if other else "–"}
            rows.append({"label": label, **cells} | {key: _with(found, key) for key in ("floor", "lift")})
    return rows


def _with(metric: dict[str, Any], key: str) -> str:
    """A number with its interval."""
    interval = metric["interval" if key == "value" else f"{key}_interval"]
    return f"{verdict.as_score(metric[key])} ({verdict.as_span(interval)})".replace("-", "−")


def _trained(summary: dict[str, Any]) -> str:
    text = f"{summary['steps']:,} steps, {summary['epochs']:g} epochs"
    for key, what in (("loss", "training"), ("eval_loss", "validation")):
        if losses := summary[key]:
            text += (
                f"; {what} loss {losses['final']:.3f} at the end, {losses['best']:.3f} at step {losses['best_step']:,}"
            )
    return text
