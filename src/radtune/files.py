"""Small file helpers that every stage shares: atomic writes, JSON lines, and the error a person reads."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any


class UserError(Exception):
    """What went wrong and what to do, in one sentence that names the file, row or key; printed without a traceback."""


ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EROFS: "make it writable, or name another results folder",
    errno.EACCES: "allow this user to read and write there, or name another results folder",
    errno.EPERM: "allow this user to read and write there, or name another results folder",
}


def disk_error(error: OSError, out: Path | None) -> UserError | None:
    """One sentence for a disk that is full, read-only or another user's; None for any other error.

    Not every library says where: then it is where the command writes, at `out`.
    """
    hidden = str(error.filename or ".").rpartition("/")[2].startswith(".")  # a temporary name
    where = out if hidden and out else error.filename
    if error.errno not in ADVICE or where is None:
        return None
    what = os.strerror(error.errno)
    return UserError(f"{where}: {what}; {ADVICE[error.errno]}, then run the same command again: what is done is kept.")


_claimed: tuple[Path, str] | None = None  # the file that says who writes the outputs, and what it says of us


@contextmanager
def claiming(out: Path) -> Iterator[None]:
    """Make this process the one that writes `out` and what else its command writes.

    A job goes on when its workflow is killed. When the workflow starts it again, the later one owns the output: the
    other stops before it puts anything in place, which may follow from an older config or be in use already.
    """
    global _claimed
    out.parent.mkdir(parents=True, exist_ok=True)
    mine = out.with_name(f".{out.name}.owner"), uuid.uuid4().hex
    try:
        mine[0].write_text(mine[1])
    except OSError:
        mine[0].unlink(missing_ok=True)  # on a full disk it is there and empty
        raise
    _claimed = mine
    try:
        yield
    finally:
        _claimed = None
        if _read(mine[0]) == mine[1]:
            mine[0].unlink(missing_ok=True)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it onto `path` at the end; on an error leave nothing behind.

    Works for a file or a folder. The temporary name is unique, because a job orphaned by a killed workflow may still be
    writing the same output; see claiming() for which of the two may. That one also removes what killed jobs left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        if _claimed:
            if _read(_claimed[0]) != _claimed[1]:
                raise UserError(f"{path}: a later job writes this now; this one stops and leaves it alone.")
            ours = re.compile(rf"\.{re.escape(path.name)}\.\d+\.[0-9a-f]{{8}}(\.old)?\.tmp")
            for left in path.parent.iterdir():
                if left != temporary and ours.fullmatch(left.name):
                    remove(left)
        if temporary.is_dir() and path.is_dir():
            os.rename(path, old := temporary.with_suffix(".old.tmp"))  # at once, so that no reader sees half of it
            os.replace(temporary, path)
            remove(old)
        else:
            os.replace(temporary, path)
    finally:
        remove(temporary)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


def remove_at_once(folder: Path) -> None:
    """Delete a folder as a whole: cut off, it is gone all the same, and replacing() takes away what is left."""
    remove(folder.rename(_temporary(folder)))


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


@contextmanager
def writing_entries(path: Path) -> Iterator[Callable[[dict[str, Any]], int]]:
    """Yield `add(entry)`; at `path` comes a JSON array with one entry a line: to be read in part, and compared.

    Each goes to the file at once: kept, the bytes of orjson take ten times their length.
    """
    import orjson  # not every image has it

    with path.open("wb", buffering=2**20) as file:
        file.write(b"[")
        separators = chain([b"\n"], repeat(b",\n"))
        yield lambda entry: file.write(next(separators) + orjson.dumps(entry))
        file.write(b"\n]\n")
