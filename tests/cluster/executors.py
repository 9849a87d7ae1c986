"""What the tests of places share: environments of one lock each, and copies of the tree."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from filelock import FileLock

ROOT = Path(__file__).parents[2]


def environment(name: str) -> Path:
    """The folder .venv-NAME with what envs/NAME.lock.txt holds, made at first use and when the lock changes."""
    folder, lock = ROOT / f".venv-{name}", ROOT / "envs" / f"{name}.lock.txt"
    done = folder / ".done"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    with alone(folder.name):
        if not done.is_file() or done.read_text() != digest:
            uv = str(Path(sys.executable).parent / "uv")
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
            install = [uv, "pip", "install", "--quiet", "--python", folder, "--no-deps", "--require-hashes", "-r", lock]
            subprocess.run(install, check=True, env={**os.environ, "UV_HTTP_TIMEOUT": "180"})
            done.write_text(digest)
    return folder


def alone(name: str) -> FileLock:
    """Held while something is made in this tree that two modules at a time want."""
    folder = Path(tempfile.gettempdir())
    return FileLock(folder / f"radtune-{hashlib.sha256(bytes(ROOT)).hexdigest()[:8]}-{name}.lock")


def copy_tree(folder: Path, images: dict[str, Path]) -> Path:
    """Fill `folder` with what a clone holds and `images` as if built there, which are opened from outside of any image.

    A copy, since links would lead out of what a container sees.
    """
    for name in ("workflow", "rules", "config", "containers", "envs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "build"))
    build = folder / "containers" / "build"
    build.mkdir()
    for image in images.values():
        (build / image.name).symlink_to(image)
    entries = {name: f"containers/build/{image.name}" for name, image in images.items()}
    (build / "images.yaml").write_text(yaml.safe_dump(entries))
    return folder
