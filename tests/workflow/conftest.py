"""A fresh folder to run Snakemake in, for each test."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from running import place, snakemake


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run("--configfile", ...): Snakemake in a fresh folder."""
    folder = place(tmp_path)
    return lambda *arguments: snakemake(folder, *arguments)
