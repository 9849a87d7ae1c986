"""The command line: one sentence for a mistake, and a start without heavy imports."""

import subprocess
import sys
from pathlib import Path

from radtune.cli import app


def radtune(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from radtune.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def test_a_mistake_is_one_sentence_on_stderr(tmp_path: Path) -> None:
    done = radtune("list-shards", "--source", "local", "--path", str(tmp_path), "--out", str(tmp_path / "x.json"))
    assert done.returncode == 1
    assert done.stderr == f"radtune: {tmp_path} holds no .parquet file; check dataset.path or dataset.repo.\n"


def test_every_command_has_help_and_loads_no_torch() -> None:
    program = (
        "import sys; from radtune.cli import app\n"
        "for name in [n for n in app if not n.startswith('-')]: app[name].help\n"
        "sys.exit(str([m for m in ('torch', 'transformers', 'llamafactory', 'pandas') if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    assert {"index", "train", "predict", "evaluate", "report"} <= set(app)
