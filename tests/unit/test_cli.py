"""The command line: one sentence for a mistake, and a start without heavy imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from radtune import cli
from radtune.cli import app
from radtune.shards import progress


def radtune(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from radtune.cli import main; main()", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_a_mistake_is_one_sentence_on_stderr(tmp_path: Path) -> None:
    done = radtune("list-shards", "--source", "local", "--path", str(tmp_path), "--out", str(tmp_path / "x.json"))
    assert done.returncode == 1
    assert done.stderr == f"radtune: {tmp_path} holds no .parquet file; check dataset.path or dataset.repo.\n"


def test_an_unreachable_hub_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    out = str(tmp_path / "shards.json")
    hub = ("list-shards", "--source", "huggingface", "--repo", "some/set", "--revision", "main", "--out", out)
    done = radtune(*hub, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0")
    assert done.returncode == 1
    assert done.stderr.startswith("radtune: huggingface did not give some/set (")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_vllm_where_it_is_not_names_its_image(tmp_path: Path) -> None:
    needed = [f"--{name}={tmp_path / name}" for name in ("model", "sharegpt", "media-dir", "out")]
    numbers = ("max-new-tokens", "batch-size", "image-max-pixels", "image-min-pixels")
    done = radtune("predict-vllm", *needed, *(f"--{name}=9" for name in numbers))
    assert done.returncode == 1
    assert done.stderr.startswith("radtune: vLLM is not installed here; it runs in its own image: containers/build.sh ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_report_needs_no_training() -> None:
    files = (
        "config",
        "evaluations",
        "sample-scores",
        "differences",
        "predictions",
        "leakage",
        "quarantine",
        "checks",
        "disagreements",
    )
    needed = [f"--{name}=x" for name in (*files, "samples-table", "media-dir", "title", "out")]
    _, bound, _ = app.parse_args(["report", *needed])
    assert "trainings" not in bound.arguments


def test_every_command_has_help_and_loads_no_torch() -> None:
    program = (
        "import sys; from radtune.cli import app\n"
        "for name in [n for n in app if not n.startswith('-')]: app[name].help\n"
        "sys.exit(str([m for m in ('torch', 'transformers', 'llamafactory', 'pandas') if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    assert {"index", "train", "predict", "evaluate", "report"} <= set(app)


def loaded(program: str, *modules: str) -> str:
    """Which of `modules` a program has imported at its end."""
    program = f"import sys; {program}; sys.exit(str([m for m in {modules} if m in sys.modules] or ''))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def test_the_workflow_reads_its_config_without_the_command_line() -> None:
    assert loaded("import radtune.config", "cyclopts", "numpy") == ""
    assert loaded("import radtune.cli", "cyclopts", "numpy") == "['cyclopts']"


def test_a_shard_is_indexed_without_what_makes_a_start_slow(phantoms: Path, tmp_path: Path) -> None:
    columns = json.dumps({name: name for name in ("id", "image", "question", "text")})
    files = [f"--shard={next(phantoms.glob('train*.parquet'))}", f"--out={tmp_path / 'index.parquet'}"]
    command = ["radtune", "index", *files, "--split=train", f"--columns={columns}"]
    program = f"import radtune.cli; sys.argv = {command}; radtune.cli.main()"
    assert loaded(program, "pandas", "pyarrow.compute", "pyarrow.dataset", "cv2", "tqdm") == ""
    assert (tmp_path / "index.parquet").exists()


@pytest.mark.parametrize("watched", [True, False])
def test_a_terminal_shows_progress_and_a_log_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], watched: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    with progress("train-0", 128, "row") as done:
        done(64)
        done(64)
    assert ("train-0: 100%" in capsys.readouterr().err) == watched


@pytest.mark.parametrize(("device", "disabled"), [("/dev/null", None), ("/dev/no-such-gpu", "1")])
def test_torch_loads_its_compiler_only_where_a_gpu_is(
    monkeypatch: pytest.MonkeyPatch, device: str, disabled: str | None
) -> None:
    monkeypatch.setattr(cli, "GPUS", (device,))
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "")
    monkeypatch.delenv("TORCHDYNAMO_DISABLE")
    cli.tell_torch()
    assert os.environ.get("TORCHDYNAMO_DISABLE") == disabled
