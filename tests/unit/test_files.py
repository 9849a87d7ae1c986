"""Which of two jobs writes an output, and what is left behind."""

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest

from radtune import files

# Stands for a job of an older config, left at work by a killed workflow: it commits when told to.
ORPHAN = """
import sys, time
from pathlib import Path
from radtune import files
out = Path(sys.argv[1])
try:
    with files.claiming(out), files.replacing(out) as folder:
        folder.mkdir()
        (folder / "a").write_text("old")
        Path(sys.argv[1] + ".ready").touch()
        while not Path(sys.argv[1] + ".go").exists():
            time.sleep(0.02)
except (files.UserError, OSError) as error:
    sys.exit(str(error))
"""


def orphan(out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", ORPHAN, str(out)], stderr=subprocess.PIPE, text=True)
    while not Path(f"{out}.ready").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


def write(out: Path, text: str) -> None:
    with files.replacing(out) as folder:
        folder.mkdir()
        (folder / "a").write_text(text)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"out.ready", "out.go"}


@pytest.mark.parametrize("later_first", [True, False])
def test_of_two_jobs_the_later_one_writes(tmp_path: Path, later_first: bool) -> None:
    out = tmp_path / "out"
    first = orphan(out)
    with files.claiming(out):
        if later_first:
            write(out, "new")
        Path(f"{out}.go").touch()
        first.wait(30)
        assert first.returncode == 1
        if not later_first:
            assert f"{out}: a later job writes this now" in (first.stderr.read() if first.stderr else "")
            write(out, "new")
    assert (out / "a").read_text() == "new"
    assert names(tmp_path) == {"out"}


def test_a_job_that_ended_is_no_owner_any_more_and_an_orphan_still_stops(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = orphan(out)
    with files.claiming(out):
        pass
    Path(f"{out}.go").touch()
    first.communicate(timeout=30)
    assert first.returncode == 1
    assert names(tmp_path) == set()


def test_what_a_killed_job_left_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed = orphan(out)
    killed.kill()
    killed.communicate()
    assert len(names(tmp_path)) == 2  # half a folder and who wrote it
    others = {".other.1.0123abcd.tmp", ".out.parquet.1.0123abcd.tmp"}
    for name in others:
        (tmp_path / name).touch()
    with files.claiming(out):
        write(out, "new")
    assert names(tmp_path) == {"out", *others}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "No space left on device; make room there, then run the same command again"),
        (errno.EROFS, "Read-only file system; make it writable, or name another results folder, then"),
        (errno.EACCES, "Permission denied; allow this user to read and write there"),
    ],
)
def test_an_error_of_the_disk_says_what_where_and_what_to_do(code: int, says: str) -> None:
    for error, where in ((OSError(code, "x", "there"), "there"), (OSError(code, "x"), "out")):
        assert str(files.disk_error(error, Path("out"))).startswith(f"{where}: {says}")
    assert files.disk_error(OSError(errno.EBADF, "x"), Path("out")) is None
