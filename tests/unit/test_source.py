"""Shards listed from a folder and from both hubs: names, splits, sizes, digests, the commit; and the local link."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import COMMIT, Hub, run, serving, sha256
from radtune.data.source import list_shards
from radtune.files import UserError, read_json

LIST = ("list-shards", "--repo", "some/set", "--revision", "main")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    for name in ("train-00000-of-00001", "validation-00000-of-00001", "val_2", "dev.x", "test-0", "trainees", "other"):
        (folder / "data" / f"{name}.parquet").write_bytes(name.encode())
    (folder / "README.md").write_text("# A set")
    return folder


def test_a_folders_shards_with_their_split(folder: Path, tmp_path: Path) -> None:
    list_shards(tmp_path / "shards.json", "local", folder)
    listing = read_json(tmp_path / "shards.json")
    assert (listing["source"], listing["repo"], listing["revision"]) == ("local", "", "")
    assert {shard["name"]: shard["split"] for shard in listing["shards"]} == {
        "dev.x": "validation",
        "other": "train",
        "test-0": "test",
        "train-00000-of-00001": "train",
        "trainees": "train",
        "val_2": "validation",
        "validation-00000-of-00001": "validation",
    }
    assert all(shard["size"] == len(shard["name"]) and shard["sha256"] is None for shard in listing["shards"])


@pytest.mark.parametrize("name", ["a b", "ü", "$(x)"])
def test_a_name_that_is_no_plain_word_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / f"{name}.parquet").touch()
    with pytest.raises(UserError, match="rename the file"):
        list_shards(tmp_path / "shards.json", "local", folder)
    assert not (tmp_path / "shards.json").exists()


def test_two_shards_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "test-0.parquet").touch()
    with pytest.raises(UserError, match=r"two files named test-0\.parquet"):
        list_shards(tmp_path / "shards.json", "local", folder)


def test_a_folder_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere holds no \.parquet file; check dataset\.path"):
        list_shards(tmp_path / "shards.json", "local", tmp_path / "nowhere")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
@pytest.mark.parametrize("states_sha256", [True, False])
def test_a_hubs_shards_with_what_it_states(hub: Hub, tmp_path: Path, source: str, states_sha256: bool) -> None:
    hub.states_sha256 = states_sha256
    shards = {f"data/train-{n:05d}.parquet": bytes([n % 256]) * (n + 1) for n in range(250)}  # more than a page of them
    hub.repositories["dataset", "some/set"] = {"README.md": b"# A set", **shards}
    assert run(hub, tmp_path, source, *LIST, "--out", str(tmp_path / "shards.json")) == ""
    listing = read_json(tmp_path / "shards.json")
    assert (listing["source"], listing["repo"], listing["revision"]) == (source, "some/set", COMMIT)
    assert {shard["origin"]: (shard["size"], shard["sha256"]) for shard in listing["shards"]} == {
        path: (len(data), sha256(data) if states_sha256 else None) for path, data in shards.items()
    }


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_hub_without_shards_is_named(hub: Hub, tmp_path: Path, source: str) -> None:
    hub.repositories["dataset", "some/set"] = {"README.md": b"# A set"}
    sentence = run(hub, tmp_path, source, *LIST, "--out", str(tmp_path / "shards.json"))
    assert sentence.startswith(f"radtune: {source}: some/set@{COMMIT} holds no .parquet file")
    assert not (tmp_path / "shards.json").exists()
