"""Environments with Snakemake and one executor each, from the locks in envs/."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(name: str) -> Path:
    """The folder .venv-NAME with what envs/NAME.lock.txt holds, made at first use and when the lock changes."""
    folder, lock = ROOT / f".venv-{name}", ROOT / "envs" / f"{name}.lock.txt"
    done = folder / ".done"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not done.is_file() or done.read_text() != digest:
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", folder, "--require-hashes", "-r", lock]
        subprocess.run(install, check=True, env={**os.environ, "UV_HTTP_TIMEOUT": "180"})
        done.write_text(digest)
    return folder
