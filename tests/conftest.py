"""What tests share: small phantom shards, and where the real slices are, if they are."""

import os
from pathlib import Path

import pytest

from radtune.cli import tell_torch
from radtune.data.phantom import write_dataset

tell_torch()
os.environ["OMP_NUM_THREADS"] = "1"  # as in a rule's job: two modules at a time with two each are six times as slow


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 drawn images in the data set's shape, defects among them."""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_dataset(folder, 24, 3, 2)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real slices and their writer; tests on them are skipped where RADTUNE_REAL_DATA names none."""
    folder = os.environ.get("RADTUNE_REAL_DATA")
    if not folder:
        pytest.skip("RADTUNE_REAL_DATA names no folder with real slices")
    return Path(folder)
