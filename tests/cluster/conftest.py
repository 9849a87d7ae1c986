"""Images built on this machine by the project's own scripts, once for all tests that run rules in them."""

import subprocess
from pathlib import Path

import pytest
import yaml
from executors import ROOT, alone


@pytest.fixture(scope="session")
def images() -> dict[str, Path]:
    """{name: path} of the images: prepare packed as .sif, the others as folders, since packing takes minutes."""
    script = ROOT / "tests" / "cluster" / "build_images.sh"
    with alone("images"):
        for format, names in (("sif", ["prepare"]), ("folder", ["train", "evaluate"])):
            done = subprocess.run(["env", f"FORMAT={format}", script, *names], stderr=subprocess.PIPE, text=True)
            if done.returncode:
                pytest.fail(f"{script.name} {' '.join(names)}: {done.stderr[-2000:]}", pytrace=False)
    built = yaml.safe_load((ROOT / "containers" / "build" / "images.yaml").read_text())
    return {name: ROOT / image for name, image in built.items()}
