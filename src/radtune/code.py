"""The digest of the code that a stage runs: Snakemake cannot see into `shell: radtune ...`, so rules carry this as a
parameter, and a changed line of library code reruns the stages that it can affect and no others.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent


def _file(module: str) -> Path | None:
    path = _PACKAGE.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _read(module: str) -> tuple[frozenset[str], bytes]:
    """The radtune modules that `module` imports, at its head or inside a function; and what can change a result: its
    syntax tree without comments, layout and docstrings, and the templates beside it.
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
    templates = b"".join(path.read_bytes() for path in sorted((file.parent / "templates").glob("*")))
    return names, ast.dump(tree).encode() + templates


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
    """Twelve hex digits over the import closure of `module`, and over the templates beside its modules."""
    total = hashlib.sha256()
    for name in closure(module, without):
        total.update(name.encode() + _read(name)[1])
    return total.hexdigest()[:12]
