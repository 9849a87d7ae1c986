"""A fresh folder to run Snakemake in, for each test."""

from pathlib import Path

import pytest
from running import Run, place, snakemake


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run("--configfile", ...): Snakemake in a fresh folder."""
    folder = place(tmp_path)
    return lambda *arguments: snakemake(folder, *arguments)
