"""A run whose data set and model come from a hub, by its real client: planned, fetched, and then left alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from running import Run, planned

from hub_server import COMMIT, Hub, serving
from radtune.data.phantom import write_dataset
from radtune.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("source", ["huggingface", "modelscope"])]
MODEL = {"config.json": b"{}", "model-1.safetensors": b"weights" * 99}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    write_dataset(tmp_path / "drawn", 20, 3, 1)
    with serving() as hub:
        shards = {f"data/{file.name}": file.read_bytes() for file in (tmp_path / "drawn").glob("*.parquet")}
        hub.repositories["dataset", "some/set"] = {"README.md": b"# A set"} | shards
        hub.repositories["model", "some/model"] = MODEL
        for name, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        yield hub


def test_shards_and_model_come_from_the_hub_once(run: Run, hub: Hub, tmp_path: Path, source: str) -> None:
    mine = {"dataset": {"source": source, "repo": "some/set"}, "results": "results/hub"}
    mine["model"] = {"source": source, "repo": "some/model", "revision": "main"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    files = ("--configfile", "config/demo.yaml", "small.yaml", "mine.yaml")
    results = tmp_path / "results" / "hub"

    done = run(*files, "--", "prepare")
    assert done.returncode == 0, done.stdout[-4000:]
    manifest = read_json(results / "data" / "manifest.json")
    assert (manifest["source"], manifest["repo"], manifest["revision"]) == (source, "some/set", COMMIT)
    for file in (tmp_path / "drawn").glob("*.parquet"):
        assert (results / "data" / "shards" / file.name).read_bytes() == file.read_bytes()
    assert list(results.glob("sharegpt/*/train.json"))

    assert planned(run(*files, "--until", "fetch_model", "--dry-run", "--", "train").stdout) == {"fetch_model": 1}
    done = run(*files, "--until", "fetch_model", "--", "train")
    assert done.returncode == 0, done.stdout[-4000:]
    (weights,) = (results / "model").rglob("model-1.safetensors")
    assert weights.read_bytes() == MODEL["model-1.safetensors"]

    fetched = len(hub.answers)
    for target in ("prepare", "train"):
        assert "fetch_" not in run(*files, "--dry-run", "--", target).stdout
    assert len(hub.answers) == fetched
