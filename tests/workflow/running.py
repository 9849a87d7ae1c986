"""Run Snakemake for real, in a folder of its own that links to the workflow."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TARGETS = {"all", "prepare", "preview", "train", "predict", "evaluate", "report", "export", "read"}
Run = Callable[..., subprocess.CompletedProcess[str]]

# A whole run in little time: nothing is learned, everything is passed through.
SMALL: dict[str, Any] = {
    "results": "results/small",
    "dataset": {"source": "phantom", "phantom": {"images": 24, "shards": 2, "seed": 3}},
    "images": {"enhanced": {"size": 128, "clahe": {"clip_limit": 2.0}}},
    "model": {"tiny": {"images": 32, "see_steps": 5}},
    "training": {"num_train_epochs": 1},
    "generation": {"max_new_tokens": 16, "blank": 0, "reworded": 0},
    "experiments": dict.fromkeys(("lora_worded", "lora_cases"), False),
    "limits": {"quarantine_share": 0.2},
}


def place(folder: Path) -> Path:
    """Make `folder` a place to run in: links to what a clone holds, and the folder's own results."""
    for name in ("workflow", "rules", "config", "containers", "envs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return folder


def planned(output: str) -> dict[str, int]:
    """{rule: jobs} of a dry run, as its table has them, without targets."""
    if "Nothing to be done" in output:
        return {}
    table = re.search(r"^job +count\n-[- ]+\n(.*?)^total +\d+", output, re.DOTALL | re.MULTILINE)
    assert table, output
    rows = (line.split() for line in table[1].splitlines())
    return {rule: int(jobs) for rule, jobs in rows if rule not in TARGETS}


def offline() -> list[str]:
    """What cuts a command off from every network, where the machine allows that."""
    command = ["unshare", "--map-root-user", "--net"]
    allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if allowed else []


def snakemake(
    folder: Path, *arguments: str, before: list[str] | None = None, source: Path = ROOT / "src"
) -> subprocess.CompletedProcess[str]:
    command = [*(before or []), sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(source)}
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
