"""These tests need a CUDA device and are skipped without one; of several they use the first."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _device() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
