"""What the figures follow from: data, models, adapters, software, code, seeds. `provenance()` fills provenance.html.j2.

Of the code's commit, Snakemake and images only the machine that starts a run can tell: it leaves a file, `run`.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from radtune.digest import digest
from radtune.files import read_json
from radtune.report.words import t

PACKAGES = [
    *("radtune", "snakemake", "numpy", "pyarrow", "pillow", "opencv-python-headless", "pydicom", "imagehash"),
    *("faiss-cpu", "torch", "torchvision", "transformers", "llamafactory", "peft", "trl", "accelerate", "datasets"),
    *("vllm", "scipy", "sacrebleu", "rouge-score", "rouge-chinese", "jieba", "nltk", "matplotlib", "jinja2"),
]
# The locks of each stage's software; torch's stand apart, as it is another in an image than outside.
LOCKS = {"workflow": ["workflow"], "prepare": ["prepare"], "train": ["train"], "evaluate": ["evaluate"]}
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:==([^\s;]+)| @ \S*/\1-([^-/]+)-)", re.MULTILINE)


def provenance(
    config: Mapping[str, Any],
    *,
    manifest: Path | None,
    models: Path | None,
    trainings: Sequence[Path],
    locks: Path | None,
    run: Path | None,
) -> dict[str, Any]:
    """`models`: the folder where fetched and built ones lie by name; `locks`: that of *.lock.txt; `run`: a file with
    `git`, see radtune.code.git_state(), `snakemake`, its version, and `images`, {stage: reference} or None outside
    containers.
    """
    told = read_json(run) if run and run.is_file() else {}
    return {
        "data": read_json(manifest) if manifest else None,
        "models": list(_models(config.get("experiments", {}), models)),
        "adapters": {
            folder.name: digest(None, [folder / "adapter"]) for folder in trainings if (folder / "adapter").is_dir()
        },
        "stages": list(LOCKS),
        "software": _software(locks, contained=bool(told.get("images"))),
        "python": platform.python_version(),
        "code": _code(told.get("git")),
        "images": told.get("images"),
        "snakemake": told.get("snakemake"),
        "seeds": _seeds(config),
    }


def _models(experiments: Mapping[str, Any], models: Path | None) -> Iterator[dict[str, Any]]:
    """Each model and fetched encoder once: what it is, revision, the commit that was read, a digest of its files."""
    used: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for key, value in experiments.items():
        used.setdefault(value["model_name"], (value["model"], []))[1].append(key)
        if value.get("fetched"):
            used.setdefault(value["encoder"], (value["fetched"] | {"path": None}, []))[1].append(key)
    for name, (model, users) in used.items():
        folder = Path(model["path"]) if model["path"] else models / name if models else None
        there = folder is not None and folder.is_dir()
        record = folder / "revision.json" if folder else None  # beside a fetched model's files
        hub = model["source"] in ("huggingface", "modelscope")
        yield {
            "name": t("built here") if model["source"] == "tiny" else model["path"] or model["repo"],
            "source": model["source"],
            "revision": model["revision"] if hub else None,
            "commit": read_json(record)["commit"] if record and record.is_file() else None,
            "digest": digest(None, [folder]) if folder and there else None,
            "experiments": users,
        }


def _software(locks: Path | None, contained: bool) -> list[tuple[str, list[str | None]]]:
    """(package, its version by the lock of each stage, and where this page was written); without what nobody has."""
    torch = ["torch-cu118" if contained else "torch"]
    pinned = []
    for names in LOCKS.values():
        paths = [locks / f"{name}.lock.txt" for name in names + torch * (names == ["train"])] if locks else []
        text = "\n".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
        pinned.append({name: number or wheel.replace("%2B", "+") for name, number, wheel in _PINNED.findall(text)})
    found = ((package, [*(lock.get(package) for lock in pinned), _installed(package)]) for package in PACKAGES)
    return [row for row in found if any(row[1])]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _code(git: Mapping[str, Any] | None) -> str:
    """The state of the code in words."""
    if not git or not git["commit"]:
        why = git["why"] if git else t("this page was not written by the workflow")
        return t("Commit not known: {why}.", why=why)
    if not git["changed"]:
        return t("Commit {commit}, unchanged.", commit=git["commit"])
    changed = f"{git['changed']:,}"
    return t("Commit {commit}, with {n} changed or new files that it does not have.", commit=git["commit"], n=changed)


def _seeds(config: Mapping[str, Any]) -> dict[str, int]:
    """{key: value} of the seeds in use, an experiment's own where it differs."""
    shared = dict(_walk({key: value for key, value in config.items() if key != "experiments"}))
    for name, experiment in config.get("experiments", {}).items():
        own = ((key, value) for key, value in _walk(experiment) if shared.get(key) != value)
        shared |= {f"experiments.{name}.{key}": value for key, value in own}
    return shared


def _walk(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if key == "seed":
            yield f"{path}{key}", value
        elif isinstance(value, Mapping) and (key not in ("phantom", "tiny") or config.get("source") == key):
            yield from _walk(value, f"{path}{key}.")
