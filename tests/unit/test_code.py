"""The code digest changes with what can change a result, and with nothing else."""

import ast
import re
import shutil
from pathlib import Path

import pytest

from radtune import code
from radtune.files import UserError

PACKAGE = Path(code.__file__).parent
IMAGES = ("prepare", "train", "evaluate", "vllm")
STAGES = ("data", "images", "clean", "train", "predict", "evaluate", "report")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package radtune with a stage that imports a helper inside a function."""
    monkeypatch.setattr(code, "_PACKAGE", tmp_path)
    (tmp_path / "stage.py").write_text('"""Doc."""\n\ndef run():\n    from radtune.helper import f\n    return f()\n')
    (tmp_path / "helper.py").write_text("def f():\n    return 1\n")
    (tmp_path / "other.py").write_text("x = 1\n")
    return tmp_path


def digest() -> str:
    code._read.cache_clear()
    code.digest.cache_clear()
    return code.digest("radtune.stage")


def test_the_closure_follows_imports_inside_functions(package: Path) -> None:
    digest()
    assert code.closure("radtune.stage") == ["radtune.helper", "radtune.stage"]


def test_a_module_can_be_left_out(package: Path) -> None:
    digest()
    before = code.digest("radtune.stage", without="radtune.helper")
    (package / "helper.py").write_text("def f():\n    return 3\n")
    digest()
    assert code.closure("radtune.stage", without="radtune.helper") == ["radtune.stage"]
    assert code.digest("radtune.stage", without="radtune.helper") == before


def test_what_changes_a_result_changes_the_digest(package: Path) -> None:
    before = digest()
    (package / "helper.py").write_text("def f():\n    return 2\n")
    assert digest() != before


@pytest.mark.parametrize("name", ["words.yaml", "templates/page.html", "sum.c"])
def test_what_lies_beside_a_module_changes_the_digest(package: Path, name: str) -> None:
    (package / name).parent.mkdir(exist_ok=True)
    found = []
    for content in ("a", "b"):
        (package / name).write_text(content)
        found.append(digest())
    assert found[0] != found[1]


def test_comments_docstrings_and_other_modules_do_not(package: Path) -> None:
    before = digest()
    (package / "stage.py").write_text(
        '"""Other."""\n# why\ndef run():\n    from radtune.helper import f\n    return f()\n'
    )
    (package / "other.py").write_text("x = 2\n")
    assert digest() == before


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the locks, Dockerfiles and references of the real one."""
    root = PACKAGE.parents[1]
    for name in ("envs", "containers"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("build"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def software() -> dict[str, str]:
    code.software.cache_clear()
    return {name: code.software(name) for name in IMAGES}


@pytest.mark.parametrize(
    ("name", "old", "new", "changed"),
    [
        ("envs/prepare.lock.txt", "pillow==11.3.0", "pillow==11.3.1", {"prepare"}),
        ("envs/torch.lock.txt", "torch==2.7.1", "torch==2.7.2", {"train"}),
        ("envs/torch-cu118.lock.txt", "torch-2.7.1", "torch-2.7.2", {"train"}),
        ("envs/evaluate.lock.txt", "    # via", "    # by way of", set()),
        ("envs/evaluate.lock.txt", "--hash=sha256:2", "--hash=sha256:3", set()),
        ("containers/train/Dockerfile", "ARG PYTHON=3.11.18", "ARG PYTHON=3.11.19", {"train"}),
        ("containers/train/Dockerfile", "# the largest", "# a large", set()),
        ("containers/images.yaml", "train: null", "train: docker://here/train@sha256:12", {"train"}),
    ],
)
def test_versions_change_the_software(tree: Path, name: str, old: str, new: str, changed: set[str]) -> None:
    before = software()
    text = (tree / name).read_text()
    assert old in text
    (tree / name).write_text(text.replace(old, new, 1))
    assert {name for name, digest in software().items() if digest != before[name]} == changed


def test_another_registry_of_the_same_image_does_not(tree: Path) -> None:
    found = []
    for registry in ("here", "there/mirror"):
        (tree / "containers/images.yaml").write_text(f"train: docker://{registry}/train@sha256:12")
        found.append(software())
    assert found[0] == found[1]


def test_a_missing_lock_is_one_sentence(tree: Path) -> None:
    (tree / "envs" / "train.lock.txt").unlink()
    with pytest.raises(UserError, match=r"envs/train\.lock\.txt is missing; start from the folder"):
        software()


def test_no_stage_imports_another() -> None:
    for stage in STAGES:
        for file in (PACKAGE / stage).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for name in names:
                    package, room, *_ = [*name.split("."), ""]
                    assert package != "snakemake", f"{file} imports snakemake"
                    assert package != "radtune" or room not in set(STAGES) - {stage}, f"{file} imports {name}"


def test_modules_stay_short() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, f"{file} is too long"


def test_rules_stay_short() -> None:
    root = PACKAGE.parents[1]
    assert len((root / "workflow" / "Snakefile").read_text().splitlines()) < 60
    for file in (root / "rules").glob("*.smk"):
        for rule in re.findall(r"^(?:rule|checkpoint) .*(?:\n(?:[ ].*)?)*", file.read_text(), re.MULTILINE):
            assert len(rule.rstrip().splitlines()) < 25, f"{file}: {rule.splitlines()[0]} is too long"
