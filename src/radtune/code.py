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
def imports(module: str) -> frozenset[str]:
    """The radtune modules that `module` imports, at its head or inside a function."""
    file = _file(module)
    assert file is not None, module
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in found if name.split(".")[0] == "radtune" and name != "radtune" and _file(name))


def closure(module: str, without: str = "") -> list[str]:
    """`module` and every radtune module that it reaches, sorted; `without` is not entered."""
    reached, queue = {module}, [module]
    while queue:
        new = imports(queue.pop()) - reached - {without}
        reached |= new
        queue += new
    return sorted(reached)


def _meaning(file: Path) -> bytes:
    """The syntax tree without comments, layout and docstrings: what can change a result."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree).encode()


@cache
def digest(module: str, without: str = "") -> str:
    """Twelve hex digits over the import closure of `module`, and over the templates beside its modules."""
    total = hashlib.sha256()
    for name in closure(module, without):
        file = _file(name)
        assert file is not None
        total.update(name.encode() + _meaning(file))
        for template in sorted((file.parent / "templates").glob("*")):
            total.update(template.read_bytes())
    return total.hexdigest()[:12]
