"""Both hubs' real clients against a server on this machine: whole files or none, resumed, else one sentence."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import COMMIT, Hub, run, serving, sha256, start
from radtune.files import read_json

SHARD = random.Random(7).randbytes(48 << 20)  # huggingface_hub writes by 10 MiB: a dropped chunk of it is lost
SMALL = random.Random(8).randbytes(1 << 20)
MODEL = {"config.json": b'{"a": 1}', "model-1.safetensors": SHARD, "nested/tokenizer.json": b"{}", "empty.txt": b""}
NAME = "data/train-0.parquet"
FETCH = ("fetch-shard", "--repo", "some/set", "--revision", COMMIT, "--origin", NAME)

pytestmark = pytest.mark.parametrize("source", ["huggingface", "modelscope"])


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        hub.repositories["dataset", "some/set"] = {"README.md": b"# A set", NAME: SHARD}
        hub.repositories["model", "some/model"] = dict(MODEL)
        yield hub


def fetch(hub: Hub, folder: Path, source: str, data: bytes = SHARD, **environment: str) -> str:
    stated = ("--size", str(len(data)), "--sha256", sha256(data), "--out", str(folder / "shard.parquet"))
    return run(hub, folder, source, *FETCH, *stated, **environment)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"home"}


def test_a_shard_arrives_whole_and_leaves_nothing_else(hub: Hub, tmp_path: Path, source: str) -> None:
    assert fetch(hub, tmp_path, source) == ""
    assert (tmp_path / "shard.parquet").read_bytes() == SHARD
    assert names(tmp_path) == {"shard.parquet", ".shard.parquet.lock"}
    assert [answer[1:] for answer in hub.answers] == [(None, len(SHARD))]


def test_a_missing_encoder_is_told_by_the_keys_that_name_it(hub: Hub, tmp_path: Path, source: str) -> None:
    asked = ("--repo", "some/clip", "--revision", COMMIT, "--kind", "encoder", "--out", str(tmp_path / "clip"))
    sentence = run(hub, tmp_path, source, "fetch-model", *asked)
    assert "check retrieval.encoder and retrieval.encoder_revision" in sentence
    hub.repositories["model", "some/clip"] = {"config.json": b"{}"}
    assert run(hub, tmp_path, source, "fetch-model", *asked) == ""
    assert (tmp_path / "clip" / "config.json").read_bytes() == b"{}"


def test_a_dropped_connection_is_gone_on_from(hub: Hub, tmp_path: Path, source: str) -> None:
    hub.drops = 1
    assert fetch(hub, tmp_path, source) == ""
    assert (tmp_path / "shard.parquet").read_bytes() == SHARD
    first, second = hub.answers
    assert first.sent == len(SHARD) // 2
    assert second.range is not None
    assert second.sent == len(SHARD) - int(second.range.removeprefix("bytes=").rstrip("-")) < 0.6 * len(SHARD)


def test_a_second_call_goes_on_where_the_first_gave_up(hub: Hub, tmp_path: Path, source: str) -> None:
    hub.drops = 99
    sentence = fetch(hub, tmp_path, source)
    assert "goes on where it stopped" in sentence
    assert "Signature" not in sentence
    assert names(tmp_path) == {".shard.parquet.partial", ".shard.parquet.lock"}
    kept = max(path.stat().st_size for path in tmp_path.rglob("*.incomplete"))
    assert kept > 0.6 * len(SHARD)
    hub.drops, hub.answers = 0, []
    assert fetch(hub, tmp_path, source) == ""
    assert [answer[1:] for answer in hub.answers] == [(f"bytes={kept}-", len(SHARD) - kept)]
    assert (tmp_path / "shard.parquet").read_bytes() == SHARD


@pytest.mark.parametrize("fault", ["corrupt", "longer"])
def test_wrong_bytes_never_stand_and_the_next_call_succeeds(hub: Hub, tmp_path: Path, source: str, fault: str) -> None:
    hub.repositories["dataset", "some/set"][NAME] = SMALL
    setattr(hub, fault, True)
    sentence = fetch(hub, tmp_path, source, SMALL)
    assert "some/set/data/train-0.parquet" in sentence
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size >= len(SMALL)]
    setattr(hub, fault, False)
    hub.answers = []
    assert fetch(hub, tmp_path, source, SMALL) == ""
    assert [answer[1:] for answer in hub.answers] == [(None, len(SMALL))]


def test_a_file_that_changed_on_the_hub_is_refused(hub: Hub, tmp_path: Path, source: str) -> None:
    hub.repositories["dataset", "some/set"][NAME] = SMALL[::-1]
    assert "some/set/data/train-0.parquet" in fetch(hub, tmp_path, source, SMALL)
    assert "shard.parquet" not in names(tmp_path)


def test_bytes_that_nothing_vouches_for_are_not_gone_on_from(hub: Hub, tmp_path: Path, source: str) -> None:
    hub.drops = 99
    unstated = (*FETCH, "--out", str(tmp_path / "shard.parquet"))
    assert run(hub, tmp_path, source, *unstated)
    hub.drops, hub.answers = 0, []
    assert run(hub, tmp_path, source, *unstated) == ""
    assert [answer[1:] for answer in hub.answers] == [(None, len(SHARD))]


@pytest.mark.parametrize("command", ["list-shards", "fetch-shard", "fetch-model"])
def test_an_unreachable_hub_is_one_sentence_soon(hub: Hub, tmp_path: Path, source: str, command: str) -> None:
    hub.url = "http://127.0.0.1:9"
    out = ("--out", str(tmp_path / "out"))
    asked = FETCH if command == "fetch-shard" else (command, "--repo", "some/set", "--revision", "main")
    started = time.monotonic()
    assert "check the connection" in run(hub, tmp_path, source, *asked, *out)
    assert time.monotonic() - started < 20
    assert "out" not in names(tmp_path)


def test_a_partial_model_is_not_taken_for_a_model_offline(hub: Hub, tmp_path: Path, source: str) -> None:
    model = ("fetch-model", "--repo", "some/model", "--revision", "main", "--out", str(tmp_path / "model"))
    hub.drops = 99
    assert run(hub, tmp_path, source, *model)
    hub.url, there = "http://127.0.0.1:9", hub.url
    assert run(hub, tmp_path, source, *model)
    assert "model" not in names(tmp_path)
    hub.url, hub.drops, hub.answers = there, 0, []
    assert run(hub, tmp_path, source, *model) == ""
    assert all(answer.range for answer in hub.answers)
    assert (tmp_path / "model" / "model-1.safetensors").read_bytes() == SHARD


def test_a_model_appears_whole_with_its_commit(hub: Hub, tmp_path: Path, source: str) -> None:
    model = ("fetch-model", "--repo", "some/model", "--revision", "main", "--out", str(tmp_path / "model"))
    assert run(hub, tmp_path, source, *model) == ""
    out = tmp_path / "model"
    arrived = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    record = read_json(out / "revision.json")
    del arrived["revision.json"]
    assert arrived == MODEL
    assert (record["revision"], record["commit"]) == ("main", COMMIT)
    assert {"path": "model-1.safetensors", "size": len(SHARD), "sha256": sha256(SHARD)} in record["files"]
    assert names(tmp_path) == {"model", ".model.lock"}
    hub.answers = []
    assert run(hub, tmp_path, source, *model) == ""
    assert hub.answers == []


def test_a_corrupt_model_file_leaves_no_model(hub: Hub, tmp_path: Path, source: str) -> None:
    hub.repositories["model", "some/model"]["model-1.safetensors"] = SMALL
    hub.corrupt = True
    model = ("fetch-model", "--repo", "some/model", "--revision", "main", "--out", str(tmp_path / "model"))
    assert "some/model/model-1.safetensors" in run(hub, tmp_path, source, *model)
    assert "model" not in names(tmp_path)
    hub.corrupt = False
    assert run(hub, tmp_path, source, *model) == ""


def test_a_path_that_leaves_the_folder_is_refused(hub: Hub, tmp_path: Path, source: str) -> None:
    hub.repositories["model", "some/model"] = {"../../escaped.json": b"{}"}
    model = ("fetch-model", "--repo", "some/model", "--revision", "main", "--out", str(tmp_path / "a" / "model"))
    assert "is no path inside a folder" in run(hub, tmp_path, source, *model)
    assert not list(tmp_path.rglob("escaped.json"))


def test_jobs_at_once_in_one_folder_and_two_of_one_shard(hub: Hub, tmp_path: Path, source: str) -> None:
    repository = hub.repositories["dataset", "some/set"]
    parts = {f"data/train-{n}.parquet": SMALL[n:] for n in range(3)}
    repository.clear()
    repository.update(parts)
    jobs = []
    for path, data in [*parts.items(), *parts.items()]:  # each twice: the later one finds an orphan at work
        stated = ("--size", str(len(data)), "--sha256", sha256(data), "--out", str(tmp_path / Path(path).name))
        jobs.append(start(hub, tmp_path, source, *FETCH[:-1], path, *stated))
    assert [job.communicate(timeout=90)[1] for job in jobs] == [""] * 6
    assert {path: (tmp_path / Path(path).name).read_bytes() for path in parts} == parts
    assert sorted(answer.name for answer in hub.answers) == sorted(parts)  # none was fetched twice


def test_a_job_waits_for_an_orphan_and_goes_on_from_its_bytes(hub: Hub, tmp_path: Path, source: str) -> None:
    stated = ("--size", str(len(SHARD)), "--sha256", sha256(SHARD), "--out", str(tmp_path / "shard.parquet"))
    hub.go_on.clear()
    orphan = start(hub, tmp_path, source, *FETCH, *stated)
    while not any(path.stat().st_size > len(SHARD) // 4 for path in tmp_path.rglob("*.incomplete")):
        assert orphan.poll() is None
        time.sleep(0.05)
    later = start(hub, tmp_path, source, *FETCH, *stated)
    time.sleep(2)
    assert len(hub.answers) == 1
    orphan.kill()
    orphan.communicate()
    hub.go_on.set()
    assert later.communicate(timeout=90)[1] == ""
    assert (tmp_path / "shard.parquet").read_bytes() == SHARD
    assert hub.answers[1].range is not None
    assert hub.answers[1].sent < 0.75 * len(SHARD)


def test_what_to_check_and_no_token_told(hub: Hub, tmp_path: Path, source: str) -> None:
    variable = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}[source]
    out = ("--out", str(tmp_path / "out"))
    asked = ("list-shards", *out, "--repo")
    sentence = run(hub, tmp_path, source, *asked, "some/typo", "--revision", "main")
    assert "dataset.repo" in sentence
    assert variable in sentence
    assert "dataset.revision" in run(hub, tmp_path, source, *asked, "some/set", "--revision", "v9")
    assert "dataset.repo" in run(hub, tmp_path, source, *asked, "no owner/in/this", "--revision", "main")
    assert "model.repo" in run(hub, tmp_path, source, "fetch-model", "--repo", "x/y", "--revision", "main", *out)
    hub.gated = True
    sentence = fetch(hub, tmp_path, source, **{variable: "very-secret"})
    assert "dataset.repo" in sentence
    assert variable in sentence
    assert "Bearer very-secret" in hub.tokens
    hub.broken = True
    sentence = run(hub, tmp_path, source, *asked, "some/set", "--revision", "main", **{variable: "very-secret"})
    assert "broken" in sentence
    assert not [word for word in ("very-secret", "secret-signature", "\x1b") if word in sentence]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"very-secret" in path.read_bytes()]
    assert names(tmp_path) <= {".out.lock", ".shard.parquet.lock", ".shard.parquet.partial"}


def test_a_login_on_the_disk_is_not_used(hub: Hub, tmp_path: Path, source: str) -> None:
    (tmp_path / "home" / "HF_HOME").mkdir(parents=True)
    (tmp_path / "home" / "HF_HOME" / "token").write_text("left-by-a-login")
    assert fetch(hub, tmp_path, source) == ""
    assert hub.tokens == {""}


def test_a_mirror_is_asked_plainly_under_either_name(hub: Hub, tmp_path: Path, source: str) -> None:
    hub.xet = True
    assert fetch(hub, tmp_path, source, MODELSCOPE_ENDPOINT="", MODELSCOPE_DOMAIN=hub.url) == ""
    assert (tmp_path / "shard.parquet").read_bytes() == SHARD
