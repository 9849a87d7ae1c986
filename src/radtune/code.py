"""Digests of the code that a stage runs and of the software under it: Snakemake cannot see into `shell: radtune ...`,
so rules carry both as a parameter, and a changed line or version reruns the stages that it can affect and no others.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from radtune.files import UserError

_PACKAGE = Path(__file__).parent
# rooms of the library, or single modules, by the image that their stages run in; all rooms, so that none is forgotten
_ROOMS = {
    "prepare": ("data", "images", "hubs", "read.prepare"),
    "train": ("train", "predict", "evaluate.embed", "read.cases"),
    "evaluate": ("clean", "evaluate", "report", "read"),
    "vllm": ("predict.vllm",),
}
# torch stands in two locks, one for the images and one for everywhere else; a stage does not know where it ran
_LOCKS = {"train": ("train", "torch", "torch-cu118")}


def _file(module: str) -> Path | None:
    path = _PACKAGE.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _read(module: str) -> tuple[frozenset[str], bytes]:
    """The radtune modules that `module` imports, at its head or inside a function; and what can change a result: its
    syntax tree without comments, layout and docstrings, and the templates, word lists and C code beside it.
    """
    file = _file(module)
    assert file is not None, module
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    names = frozenset(name for name in found if name.split(".")[0] == "radtune" and name != "radtune" and _file(name))
    beside = sorted([*(file.parent / "templates").glob("*"), *file.parent.glob("*.yaml"), *file.parent.glob("*.c")])
    return names, ast.dump(tree).encode() + b"".join(path.read_bytes() for path in beside)


def closure(module: str, without: str = "") -> list[str]:
    """`module` and every radtune module that it reaches, sorted; `without` is not entered."""
    reached, queue = {module}, [module]
    while queue:
        new = _read(queue.pop())[0] - reached - {without}
        reached |= new
        queue += new
    return sorted(reached)


@cache
def digest(module: str, without: str = "") -> str:
    """Twelve hex digits over the import closure of `module`, and over what lies beside its modules."""
    return _short(name.encode() + _read(name)[1] for name in closure(module, without))


def image(module: str) -> str:
    """The image that the stage `module` runs in; KeyError for a room that has none."""
    found = {room: name for name, rooms in _ROOMS.items() for room in rooms}
    stage = module.partition(".")[2]
    return found.get(stage) or found[stage.split(".")[0]]


@cache
def software(name: str) -> str:
    """Twelve hex digits over the software of image `name`: its locks, its Dockerfile, and its digest once published.

    They are the same in a virtual environment, which has the versions of the same locks, so that moving between places
    makes nothing stale. So is what says nothing of versions left out: comments, the hashes of a version's many wheels,
    the registry, and images built here, which follow from the rest. Files are those of the working directory.
    """
    locks = [Path("envs", f"{lock}.lock.txt") for lock in _LOCKS.get(name, (name,))]
    try:
        lines = [line for path in [Path("containers", name, "Dockerfile"), *locks] for line in _statements(path)]
        published = yaml.safe_load(Path("containers/images.yaml").read_text(encoding="utf-8")).get(name) or ""
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; start from the folder that holds radtune's own tree.") from None
    return _short(f"{line}\n".encode() for line in [*lines, published.rpartition("@")[2]])


def _statements(path: Path) -> list[str]:
    lines = [line.strip().removesuffix("\\").rstrip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "--hash="))]


def git_state(tree: Path) -> dict[str, Any]:
    """Of the repository that holds `tree`: commit, and how many files are changed or new; or why that is not known."""
    command = ["git", "-C", str(tree), "--no-optional-locks"]
    try:
        commit, changed = (
            subprocess.run([*command, *rest], capture_output=True, text=True, check=True).stdout
            for rest in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=all"])
        )
    except FileNotFoundError:
        return {"commit": None, "why": "git is not installed"}
    except subprocess.CalledProcessError as error:
        return {"commit": None, "why": error.stderr.partition("\n")[0].removeprefix("fatal: ")}
    return {"commit": commit.strip(), "changed": len(changed.splitlines())}


def _short(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()[:12]
