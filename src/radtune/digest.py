"""Digests of files, to tell a run's leftovers from another run's: resume only what has the same inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WHOLE = 64 * 2**20  # bytes; larger files are sampled, as reading 16 GiB of weights costs minutes
SAMPLES, SAMPLE = 256, 64 * 2**10  # so many samples of so many bytes, evenly over the file


def digest(value: Any, paths: Iterable[Path] = ()) -> str:
    """16 hex digits over a JSON-able value and the content of files; a folder stands for the files right in it."""
    result = hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode())
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():
                size = file.stat().st_size
                result.update(f"\n{file.name} {size}\n".encode())
                with file.open("rb") as stream:
                    if size <= WHOLE:
                        result.update(stream.read())
                    else:
                        for n in range(SAMPLES):
                            stream.seek(n * (size - SAMPLE) // (SAMPLES - 1))
                            result.update(stream.read(SAMPLE))
    return result.hexdigest()[:16]
