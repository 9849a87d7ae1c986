"""Where the serving page listens, and what of an upload is removed; the page itself is tested in a browser."""

import os
import time
from pathlib import Path

import pytest

from radtune.files import UserError
from radtune.read.serve import ABANDONED, forget, listening, sweep


def test_it_listens_here_alone_and_warns_where_others_reach_it(capsys: pytest.CaptureFixture[str]) -> None:
    with listening("127.0.0.1", 0) as (sock, address):
        port = sock.getsockname()[1]
        assert address == f"http://127.0.0.1:{port}"
        sock.listen()
        with pytest.raises(UserError, match=rf"^cannot listen on 127\.0\.0\.1:{port} \(.+\); choose another --port"):
            listening("127.0.0.1", port).__enter__()
    assert capsys.readouterr().err == ""
    with listening("0.0.0.0", 0):
        pass
    assert capsys.readouterr().err.startswith("warning: every machine that can reach 0.0.0.0 can use this page")


def test_an_upload_is_removed_and_nothing_elsewhere(tmp_path: Path) -> None:
    mine, other = (tmp_path / "uploads" / name / "slice.dcm" for name in ("ab12", "cd34"))
    for path in (mine, other, tmp_path / "outside.dcm"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")
    for path in (mine, tmp_path / "outside.dcm"):
        forget(tmp_path, str(path))
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {other, tmp_path / "outside.dcm"}


def test_what_nobody_asks_for_is_swept_and_what_is_awaited_stays(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    files = [uploads / "ab12" / "slice.dcm", uploads / "tmp_empty", tmp_path / "tmp_broken_off"]
    files += [tmp_path / "tmp_reading" / "image", tmp_path / "weights"]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")
    sweep(tmp_path)
    assert all(path.exists() for path in files)
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, time.time() - ABANDONED - 1))
    (uploads / "cd34").mkdir()  # of one that has just come, after a long upload
    os.replace(uploads / "ab12" / "slice.dcm", uploads / "cd34" / "slice.dcm")
    os.utime(uploads / "ab12", (0, 0))
    sweep(tmp_path)
    assert sorted(path.name for path in uploads.rglob("*")) == ["cd34", "slice.dcm"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp_reading", "uploads", "weights"]
