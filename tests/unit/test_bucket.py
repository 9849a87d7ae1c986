"""botocore against moto's S3 server on this machine: whole objects or none, gone on from, else one sentence."""

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from radtune.bucket import Object, digest
from radtune.files import read_json
from s3_server import KEYS, Store, run, serving, start

DATA = random.Random(7).randbytes(8 << 20)
SMALL = random.Random(8).randbytes(300_000)
MODEL = {"config.json": b'{"a": 1}', "model-1.safetensors": DATA, "nested/tokenizer.json": b"{}", "empty.txt": b""}
REPO = ("--repo", "s3://bucket/set")


@pytest.fixture
def store() -> Iterator[Store]:
    with serving() as store:
        store.put("bucket", "set/train-0.parquet", DATA)
        yield store


def etag(store: Store, key: str) -> str:
    return str(store.client.head_object(Bucket="bucket", Key=key)["ETag"]).strip('"')


def fetching(store: Store, folder: Path, name: str = "train-0.parquet", size: int = len(DATA)) -> tuple[str, ...]:
    asked = ("--revision", etag(store, f"set/{name}"), "--size", str(size), "--origin", name)
    return ("fetch-shard", *REPO, *asked, "--out", str(folder / "shard.parquet"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"home"}


def test_shards_are_listed_with_what_the_store_states(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "100")  # a page
    for n in range(150):
        store.put("bucket", f"many/{n % 3}/part-{n:04d}.parquet", b"%d" % n)
    store.put("bucket", "many/README.md", b"# A set")
    store.put("bucket", "many-others/train.parquet", b"not of this prefix")
    out = tmp_path / "shards.json"
    assert run(store, tmp_path, "list-shards", "--repo", "s3://bucket/many", "--revision", "", "--out", str(out)) == ""
    found = read_json(out)
    assert (found["source"], found["repo"]) == ("s3", "s3://bucket/many")
    origins = [shard["origin"] for shard in found["shards"]]
    assert origins == sorted(f"{n % 3}/part-{n:04d}.parquet" for n in range(150))
    assert (found["shards"][0]["size"], found["shards"][0]["revision"]) == (1, etag(store, f"many/{origins[0]}"))
    assert [one.path.split("?")[0] for one in store.asked] == ["/bucket"] * 2


def test_a_name_sorts_as_in_a_folder(store: Store, tmp_path: Path) -> None:
    paths = ["a/x.parquet", "a-b/y.parquet", "a.b.parquet", "B/z.parquet"]
    for path in paths:
        store.put("bucket", f"order/{path}", b"1")
        (tmp_path / "set" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / path).touch()
    out = tmp_path / "shards.json"
    assert run(store, tmp_path, "list-shards", "--repo", "s3://bucket/order", "--revision", "", "--out", str(out)) == ""
    local = [str(path.relative_to(tmp_path / "set")) for path in sorted((tmp_path / "set").rglob("*.parquet"))]
    assert [shard["origin"] for shard in read_json(out)["shards"]] == local


def test_what_is_added_removed_renamed_or_written_anew_changes_the_digest() -> None:
    one, two = Object("a.parquet", 1, "x"), Object("b.parquet", 1, "y")
    listings = [[one, two], [one], [two], [one._replace(etag="z"), two], [one._replace(path="c.parquet"), two]]
    assert len({digest(listing) for listing in listings}) == len(listings)
    assert digest([one, two]) == digest([Object(*one), Object(*two)])


def test_a_shard_arrives_whole_and_leaves_nothing_else(store: Store, tmp_path: Path) -> None:
    assert run(store, tmp_path, *fetching(store, tmp_path)) == ""
    assert (tmp_path / "shard.parquet").read_bytes() == DATA
    assert names(tmp_path) == {"shard.parquet", ".shard.parquet.lock"}
    assert [one.range for one in store.gets()] == [None]


def test_a_cut_connection_is_gone_on_from(store: Store, tmp_path: Path) -> None:
    store.cuts, store.at = 1, len(DATA) // 2
    assert run(store, tmp_path, *fetching(store, tmp_path)) == ""
    assert (tmp_path / "shard.parquet").read_bytes() == DATA
    first, second = store.gets()
    assert first.range is None
    assert second.range is not None
    assert int(second.range.removeprefix("bytes=").rstrip("-")) > len(DATA) // 3


def test_a_second_call_goes_on_where_the_first_gave_up(store: Store, tmp_path: Path) -> None:
    store.cuts, store.at = 99, 1 << 20
    assert "goes on where it stopped" in run(store, tmp_path, *fetching(store, tmp_path))
    assert names(tmp_path) == {".shard.parquet.partial", ".shard.parquet.lock"}
    (kept,) = tmp_path.rglob("*.incomplete")
    size = kept.stat().st_size
    assert size > 2 << 20  # of three tries
    store.cuts, store.asked = 0, []
    assert run(store, tmp_path, *fetching(store, tmp_path)) == ""
    assert [one.range for one in store.gets()] == [f"bytes={size}-"]
    assert (tmp_path / "shard.parquet").read_bytes() == DATA


def test_a_killed_fetch_leaves_nothing_under_the_final_name(store: Store, tmp_path: Path) -> None:
    store.go_on.clear()
    job = start(store, tmp_path, *fetching(store, tmp_path))
    while not any(path.stat().st_size for path in tmp_path.rglob("*.incomplete")):
        assert job.poll() is None
        time.sleep(0.05)
    later = start(store, tmp_path, *fetching(store, tmp_path))  # waits while the first, an orphan, is at work
    with pytest.raises(subprocess.TimeoutExpired):
        later.wait(2)
    assert len(store.gets()) == 1
    job.kill()
    job.communicate()
    assert names(tmp_path) == {".shard.parquet.partial", ".shard.parquet.lock", ".shard.parquet.owner"}
    store.go_on.set()
    assert later.communicate(timeout=90)[1] == ""
    assert (tmp_path / "shard.parquet").read_bytes() == DATA
    assert store.gets()[1].range is not None


@pytest.mark.parametrize(
    "parts",
    [[DATA], [DATA[: 6 << 20], DATA[6 << 20 :]], [DATA[: 5 << 20], DATA[: 6 << 20], SMALL]],
    ids=["one", "even", "uneven"],
)
def test_an_upload_in_parts_is_held_against_its_etag(store: Store, tmp_path: Path, parts: list[bytes]) -> None:
    store.put_parts("bucket", "set/parts.parquet", parts)
    asked = fetching(store, tmp_path, "parts.parquet", sum(map(len, parts)))
    store.flip = True
    assert "do not fit its ETag" in run(store, tmp_path, *asked)
    assert not list(tmp_path.rglob("*.incomplete"))
    store.flip, store.asked = False, []
    assert run(store, tmp_path, *asked) == ""
    assert (tmp_path / "shard.parquet").read_bytes() == b"".join(parts)
    assert [one.method for one in store.asked] == ["GET"] + ["HEAD"] * (1 if len(parts) < 3 else 4)


@pytest.mark.parametrize("stated", [{}, {"ChecksumAlgorithm": "CRC32"}, {"ChecksumAlgorithm": "SHA256"}])
def test_wrong_bytes_never_stand_and_the_next_call_succeeds(
    store: Store, tmp_path: Path, stated: dict[str, str]
) -> None:
    store.put("bucket", "set/train-0.parquet", DATA, **stated)
    store.flip = True
    sentence = run(store, tmp_path, *fetching(store, tmp_path))
    assert "set/train-0.parquet" in sentence
    assert "thrown away" in sentence
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    store.flip = False
    assert run(store, tmp_path, *fetching(store, tmp_path)) == ""


def test_an_etag_that_is_no_md5_says_nothing(store: Store, tmp_path: Path) -> None:
    """Encrypted under a key of the user's, an object has an ETag that looks like an MD5 and is none; here it is the MD5
    of other bytes than those that arrive.
    """
    store.put("bucket", "set/kms.parquet", DATA, ServerSideEncryption="aws:kms")
    store.flip = True
    assert run(store, tmp_path, *fetching(store, tmp_path, "kms.parquet")) == ""
    assert (tmp_path / "shard.parquet").stat().st_size == len(DATA)


def test_an_object_that_changed_since_it_was_listed_is_refused(store: Store, tmp_path: Path) -> None:
    asked = fetching(store, tmp_path)
    store.cuts, store.at = 99, 1 << 20
    run(store, tmp_path, *asked)  # leaves bytes of the old object
    store.cuts = 0
    store.put("bucket", "set/train-0.parquet", DATA[::-1])
    assert "it changed there since it was listed); run it again" in run(store, tmp_path, *asked)
    assert "shard.parquet" not in names(tmp_path)
    assert run(store, tmp_path, *fetching(store, tmp_path)) == ""
    assert (tmp_path / "shard.parquet").read_bytes() == DATA[::-1]


def test_a_model_appears_whole_with_what_it_was(store: Store, tmp_path: Path) -> None:
    for path, data in MODEL.items():
        store.put("bucket", f"model/{path}", data)
    store.put("bucket", "model/nested/", b"")  # how consoles make a folder
    out = tmp_path / "model"
    asked = ("fetch-model", "--repo", "s3://bucket/model", "--revision", "", "--out", str(out))
    store.cuts, store.at = 99, 1 << 20
    assert "model/model-1.safetensors" in run(store, tmp_path, *asked)
    assert "model" not in names(tmp_path)
    store.cuts, store.asked = 0, []
    assert run(store, tmp_path, *asked) == ""
    assert [one.path for one in store.gets() if "config.json" in one.path] == []  # it was there already
    arrived = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    del arrived["revision.json"]
    assert arrived == MODEL
    record = read_json(out / "revision.json")
    assert {"path": "config.json", "size": 8, "sha256": None, "revision": etag(store, "model/config.json")} in record[
        "files"
    ]
    assert len(record["commit"]) == 40
    store.asked.clear()
    assert run(store, tmp_path, *asked) == ""
    assert store.gets() == []


def test_a_key_that_leaves_the_folder_is_refused(store: Store, tmp_path: Path) -> None:
    store.put("bucket", "model/../../escaped.json", b"{}")
    asked = ("fetch-model", "--repo", "s3://bucket/model", "--revision", "", "--out", str(tmp_path / "a" / "model"))
    assert "is no path inside a folder; check model.path." in run(store, tmp_path, *asked)
    assert not list(tmp_path.rglob("escaped.json"))


@pytest.mark.parametrize(
    ("repo", "environment", "sentence"),
    [
        ("s3://nowhere/set", {}, "(no such bucket); check dataset.path and AWS_ENDPOINT_URL."),
        ("s3://bucket/nowhere", {}, "s3://bucket/nowhere holds no .parquet file; check dataset.path."),
        ("s3://B/set", {}, "check dataset.path"),
        ("s3://bucket/set", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "(no credentials); set AWS_ACCESS"),
        ("s3://bucket/set", {"AWS_SECRET_ACCESS_KEY": ""}, "(no credentials); set AWS_ACCESS_KEY_ID and AWS_SECRET"),
        ("s3://bucket/set", {"AWS_PROFILE": "nobody"}, "check AWS_PROFILE."),
        ("s3://bucket/set", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "check the connection and AWS_ENDPOINT_URL"),
        ("s3://bucket/set", {"AWS_ENDPOINT_URL": "http://no-such.invalid"}, "check the connection and AWS_ENDPOINT_U"),
        ("s3://bucket/set", {"AWS_ENDPOINT_URL": "http://me:hidden@127.0.0.1:9"}, "check the connection and AWS_"),
        (
            "s3://bucket/set",
            {"AWS_ENDPOINT_URL": "no address"},
            "Invalid endpoint: no address); check AWS_ENDPOINT_URL",
        ),
    ],
)
def test_what_to_check_is_one_sentence_soon(
    store: Store, tmp_path: Path, repo: str, environment: dict[str, str], sentence: str
) -> None:
    asked = ("list-shards", "--repo", repo, "--revision", "", "--out", str(tmp_path / "out"))
    started = time.monotonic()
    said = run(store, tmp_path, *asked, **environment)
    assert time.monotonic() - started < 20
    assert sentence in said
    assert not [word for word in ("very-secret", "hidden") if word in said]
    assert names(tmp_path) == set()


def test_a_key_that_is_gone_and_keys_that_are_not_known(store: Store, tmp_path: Path) -> None:
    asked = fetching(store, tmp_path)
    store.client.delete_object(Bucket="bucket", Key="set/train-0.parquet")
    assert "s3://bucket/set/train-0.parquet (not found); check dataset.path" in run(store, tmp_path, *asked)
    store.check_keys(True)
    try:
        said = run(store, tmp_path, *asked)
    finally:
        store.check_keys(False)
    assert "not allowed: InvalidAccessKeyId" in said
    assert "AWS_SECRET_ACCESS_KEY" in said
    assert not [value for value in (KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]) if value in said]
    assert "shard.parquet" not in names(tmp_path)


def test_a_login_on_the_disk_is_read_only_where_the_environment_asks(store: Store, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    folder = tmp_path / "home" / ".aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    assert "no credentials" in run(store, tmp_path, *fetching(store, tmp_path), **keys)
    assert run(store, tmp_path, *fetching(store, tmp_path), **keys, AWS_PROFILE="default") == ""
