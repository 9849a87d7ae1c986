"""The code digest changes with what can change a result, and with nothing else."""

import ast
from pathlib import Path

import pytest

from radtune import code

PACKAGE = Path(code.__file__).parent
STAGES = ("data", "images", "train", "predict", "evaluate", "report")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package radtune with a stage that imports a helper inside a function."""
    monkeypatch.setattr(code, "_PACKAGE", tmp_path)
    (tmp_path / "stage.py").write_text('"""Doc."""\n\ndef run():\n    from radtune.helper import f\n    return f()\n')
    (tmp_path / "helper.py").write_text("def f():\n    return 1\n")
    (tmp_path / "other.py").write_text("x = 1\n")
    return tmp_path


def digest() -> str:
    code.imports.cache_clear()
    code.digest.cache_clear()
    return code.digest("radtune.stage")


def test_the_closure_follows_imports_inside_functions(package: Path) -> None:
    digest()
    assert code.closure("radtune.stage") == ["radtune.helper", "radtune.stage"]


def test_what_changes_a_result_changes_the_digest(package: Path) -> None:
    before = digest()
    (package / "helper.py").write_text("def f():\n    return 2\n")
    assert digest() != before


def test_comments_docstrings_and_other_modules_do_not(package: Path) -> None:
    before = digest()
    (package / "stage.py").write_text(
        '"""Other."""\n# why\ndef run():\n    from radtune.helper import f\n    return f()\n'
    )
    (package / "other.py").write_text("x = 2\n")
    assert digest() == before


def test_no_stage_imports_another() -> None:
    for stage in STAGES:
        for file in (PACKAGE / stage).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for name in names:
                    parts = name.split(".")
                    assert (
                        parts[0] == "snakemake"
                        or parts[:1] != ["radtune"]
                        or parts[1:2] in ([], [stage])
                        or (parts[1] not in STAGES)
                    ), f"{file} imports {name}"
                    assert parts[0] != "snakemake", f"{file} imports snakemake"


def test_modules_stay_short() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, f"{file} is too long"
