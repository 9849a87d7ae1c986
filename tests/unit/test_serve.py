"""Where the serving page listens, and what of an upload is removed; the page itself is tested in a browser."""

from pathlib import Path

import pytest

from radtune.files import UserError
from radtune.read.serve import forget, listening


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
    (tmp_path / "uploads" / "tmpxyz").touch()
    for path in (mine, tmp_path / "outside.dcm"):
        forget(tmp_path, str(path))
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {other, tmp_path / "outside.dcm"}
