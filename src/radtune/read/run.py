"""What a finished run says of one of its experiments: all that reading a new image by it takes."""

from __future__ import annotations

import difflib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from radtune import code
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
    model = _model(folder, found, config)
    train = folder / "sharegpt" / found["plain"] / "train.json"
    index = _index(folder, found)  # without it an experiment that asks with cases would ask without
    for needed in (model, train, *filter(None, (adapter, index))):
        if not needed.exists():
            raise UserError(f"{needed} is missing; finish the run first, or take another --experiment.")
    if adapter:
        _check_trained(folder, found["adapter"], config)
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
        _similar(folder, experiment, config),
    )


def _check_trained(folder: Path, name: str, config: dict[str, Any]) -> None:
    """That the adapter has learned from what the config says now, which is written before anything is made anew, and
    from pictures made by this code.
    """
    of = config["experiments"][name]
    summary, settings = folder / "train" / name / "summary.json", folder / "train" / name / "train.yaml"
    images = read_json(summary).get("images") if summary.is_file() else None
    if not images or not settings.is_file():
        raise UserError(f"{summary} does not say how the training images were made; run the workflow again.")
    trained = yaml.safe_load(settings.read_text(encoding="utf-8"))
    recipe = config["images"][of["images"]]
    for what, was, now in (
        *((f"images.{of['images']}.{key}", images["recipe"].get(key), recipe[key]) for key in recipe),
        ("dataset", Path(trained["dataset_dir"]).name, of["dataset"]),
        ("model", Path(trained["model_name_or_path"]).name, _model(folder, of, config).name),
        ("the code of radtune.images.enhance", images["code"], code.digest("radtune.images.enhance")),
    ):
        if was != now:
            adapter = folder / "train" / name / "adapter"
            raise UserError(f"{adapter} was trained with {what} {was}, now {now}; run the workflow to its end first.")


def _model(folder: Path, of: dict[str, Any], config: dict[str, Any]) -> Path:
    path = of["model"]["path"]
    return _place(path, folder, config) if path else folder / "model" / of["model_name"]


def _place(path: str, folder: Path, config: dict[str, Any]) -> Path:
    """Where a file or folder of the config lies: relative to where the workflow ran, which the run's own place tells
    where that is relative too, else to here.
    """
    results, own = Path(config["results"]), Path(os.path.abspath(folder))
    within = not results.is_absolute() and own.parts[-len(results.parts) :] == results.parts
    for root in ([own.parents[len(results.parts) - 1]] if within else []) + [Path.cwd()]:
        if (root / path).exists():
            return root / path
    raise UserError(f"{folder / 'config.yaml'} names {path}, which is not here; start where the workflow ran.")


def _similar(folder: Path, experiment: str, config: dict[str, Any]) -> dict[str, Any] | None:
    """By the experiment's own index, else by another's of the same recipe; the first asks with the cases' answers."""
    experiments = config["experiments"]
    found = experiments[experiment]
    others = [value for value in experiments.values() if value["images"] == found["images"]]
    for of in [found, *others]:
        if (index := _index(folder, of)) and index.is_dir():
            given = of["retrieval"]["encoder"]
            encoder = _model(folder, of, config) if given == "model" else _place(given, folder, config)
            arguments: dict[str, Any] = dict(of["pixels"])
            arguments |= {"index": index, "encoder": encoder, "samples": folder / "data" / "samples.parquet"}
            if of is found:
                arguments |= {key: of["retrieval"][key] for key in ("k", "characters")}
                arguments["prompts"] = _place(of["prompts"]["file"], folder, config)
            return arguments
    return None


def _index(folder: Path, of: dict[str, Any]) -> Path | None:
    """The index that the experiment's own cases come from, where it is asked with some."""
    return folder / "retrieve" / of["encoder"] / of["images"] / "index" if of["encoder"] else None


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
