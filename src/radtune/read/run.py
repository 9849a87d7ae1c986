"""What a finished run says of one of its experiments: all that reading a new image by it takes."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from radtune.data.answers import TAGS
from radtune.files import UserError, read_json
from radtune.resize import IMAGE

# what a person calls a task
NAMES = {
    "caption": "CAPTION",
    "details": "CAPTION_DETAILS",
    "region": "REGION_OF_INTEREST",
    "observation": "OBSERVATION",
    "record": "JSON_RECORD",
    "box": "DETECT_REGION_LOC",
    "description": "REGION_LOC_DESCRIPTION",
}


class Run(NamedTuple):
    """An experiment of a finished run, with the paths of its files."""

    folder: Path
    experiment: str
    config: Path
    recipe: dict[str, Any]  # arguments of images.enhance.Recipe
    model: Path
    adapter: Path | None
    train: Path  # the ShareGPT file that was trained on, or would have been, without similar cases
    evaluation: Path | None  # scores on the test split
    generation: dict[str, Any]  # arguments of predict.generate.predict
    box: str  # the config's answers.box
    similar: dict[str, Any] | None  # arguments of read.cases.similar_cases, where the run has an index of such images


def find(folder: Path | None, experiment: str | None) -> Run:
    """`folder`: the newest under results/ with an adapter where it is not given. `experiment`: the first that is
    trained there, else base. Raises UserError.
    """
    folder = folder or newest(Path("results"))
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{path} is missing; name the results folder of a finished run: --run.")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    experiments = config["experiments"]
    trained = [name for name in experiments if (folder / "train" / name / "adapter").is_dir()]
    experiment = experiment or next(iter(trained), "base")
    if experiment not in experiments:
        near = difflib.get_close_matches(experiment, list(experiments), n=1, cutoff=0)
        raise UserError(f"{path} has no experiment {experiment}; did you mean {near[0]}?")
    found = experiments[experiment]
    adapter = folder / "train" / found["adapter"] / "adapter" if found["adapter"] else None
    model = _model(folder, found)
    train = folder / "sharegpt" / found["plain"] / "train.json"
    for needed in (model, train, *([adapter] if adapter else [])):
        if not needed.exists():
            raise UserError(f"{needed} is missing; finish the run first, or take another --experiment.")
    scores = folder / "evaluate" / experiment / "test.json"
    recipe = dict(config["images"][found["images"]])
    return Run(
        folder,
        experiment,
        path,
        recipe | (recipe.pop("clahe") or {"clip_limit": 0}),
        model,
        adapter,
        train,
        scores if scores.is_file() else None,
        {key: found["generation"][key] for key in ("max_new_tokens", "batch_size", "cache")}
        | found["pixels"]
        | ({"valid_records": True, "box": found["answers"]["box"]} if found["generation"]["valid_records"] else {})
        | {"gpu_memory_gib": config["limits"]["gpu_memory_gib"]},
        found["answers"]["box"],
        _similar(folder, experiment, experiments),
    )


def _model(folder: Path, of: dict[str, Any]) -> Path:
    return Path(of["model"]["path"] or folder / "model" / of["model_name"])


def _similar(folder: Path, experiment: str, experiments: dict[str, Any]) -> dict[str, Any] | None:
    """By the experiment's own index, else by another's of the same recipe; the first asks with the cases' answers."""
    found = experiments[experiment]
    others = [value for value in experiments.values() if value["images"] == found["images"]]
    for of in [found, *others]:
        index = folder / "retrieve" / str(of["encoder"]) / of["images"] / "index"
        if of["encoder"] and index.is_dir():
            encoder = of["retrieval"]["encoder"]
            arguments: dict[str, Any] = dict(of["pixels"])
            arguments |= {"index": index, "encoder": _model(folder, of) if encoder == "model" else Path(encoder)}
            asked = {key: of["retrieval"][key] for key in ("k", "characters")}
            asked |= {"prompts": Path(of["prompts"]["file"])}
            return arguments | (asked if of is found else {})
    return None


def newest(results: Path) -> Path:
    """The run whose adapter was written last."""
    adapters = sorted(results.glob("*/train/*/adapter"), key=lambda path: path.stat().st_mtime)
    if not adapters:
        raise UserError(f"no run under {results}/ has an adapter; run make demo, or name a run's folder: --run.")
    return adapters[-1].parents[2]


def wordings(train: Path, tasks: list[str] | None) -> dict[str, str]:
    """{tag: prompt} in the order of TAGS: of each task the wording that training met most often, so that the model is
    asked what it has learned to answer. `tasks`: tags or NAMES; all that were trained unless given. Raises UserError.
    """
    met: dict[str, Counter[str]] = {}
    for record in read_json(train):
        met.setdefault(record["tag"], Counter())[record["messages"][-2]["content"].replace(IMAGE, "")] += 1
    wanted = {NAMES.get(task.lower(), task.upper()) for task in tasks} if tasks else set(met)
    if unknown := wanted - set(met):
        known = {tag: name for name, tag in NAMES.items()}
        there = ", ".join(known.get(tag, tag) for tag in TAGS if tag in met)
        raise UserError(f"task {min(unknown)} is none that {train} has; take of {there}.")
    return {tag: met[tag].most_common(1)[0][0] for tag in TAGS if tag in wanted}


def scores(evaluation: Path | None) -> dict[str, list[dict[str, Any]]]:
    """{tag: what the test split says of its answers}: by overlap for boxes, by fields for records, by ROUGE-L for other
    texts, and by words of place and density; `says` is better, worse or "not better" than the best floor, or unknown.
    """
    if evaluation is None:
        return {}
    found = json.loads(evaluation.read_text(encoding="utf-8"))
    told: dict[str, list[dict[str, Any]]] = {}
    for tag, block in found["tags"].items():
        metrics = block["metrics"]
        first = next(name for name in ("iou", "record_fields", "rouge_l") if name in metrics)
        for name in [first] + ["slots"] * (first != "iou" and "slots" in metrics):
            kept = ("value", "interval", "n", "groups", "floor_name", "floor", "lift", "lift_interval")
            score = {"metric": name, "is": found["signatures"][name]} | {key: metrics[name][key] for key in kept}
            told.setdefault(tag, []).append(score | {"says": _says(score["lift_interval"])})
    return told


def _says(span: list[float] | None) -> str:
    if span is None:
        return "unknown"
    return "better" if span[0] > 0 else "worse" if span[1] < 0 else "not better"
