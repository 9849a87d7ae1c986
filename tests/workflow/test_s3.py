"""A run from object storage writes what a run from a folder does, plans the same reruns, and survives being killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from running import ROOT, Run
from test_config_run import contents

from radtune.config import resolve
from radtune.data.phantom import write_dataset
from s3_server import KEYS, Store, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    with serving() as store:
        for key in [key for key in os.environ if key.startswith("AWS_")]:
            monkeypatch.delenv(key)
        for key, value in store.environment().items():
            monkeypatch.setenv(key, value)
        yield store


def configure(folder: Path, name: str, **sections: object) -> tuple[str, ...]:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"results": f"results/{name}", **sections}))
    return ("--configfile", "config/demo.yaml", "small.yaml", f"{name}.yaml")


def written(output: str, name: str) -> set[str]:
    """What the jobs of a run wrote, with the folder of its results left out."""
    lines = re.findall(r"^ +output: (.+)$", output, re.M)
    return {path.removeprefix(f"results/{name}/") for line in lines for path in line.split(", ")}


def data(results: Path) -> dict[str, bytes]:
    """Every file that does not name the data's own place, for one core and two."""
    own = ("data/shards.json", "data/manifest.json")
    return {name: of for name, of in contents(results).items() if name not in own and not name.endswith(".lock")}


def test_a_bucket_is_as_good_as_a_folder(run: Run, store: Store, tmp_path: Path) -> None:
    parquet, more = tmp_path / "parquet", tmp_path / "more"
    write_dataset(parquet, 20, 3, 1)
    write_dataset(more, 20, 4, 1)
    for file in parquet.glob("*.parquet"):
        store.put("bucket", f"set/{file.name}", file.read_bytes())
    store.put("bucket", "set/README.md", b"# A set")
    local = configure(tmp_path, "local", dataset={"source": "local", "path": "parquet"})
    s3 = configure(tmp_path, "s3", dataset={"source": "local", "path": "s3://bucket/set/"})
    both = {"local": local, "s3": s3}

    def prepare() -> set[str]:
        found = {}
        for name, files in both.items():
            done = run(*files, "--", "prepare")
            assert done.returncode == 0, done.stdout[-4000:]
            found[name] = written(done.stdout, name)
        assert found["s3"] == found["local"]
        assert data(tmp_path / "results" / "s3") == data(tmp_path / "results" / "local")
        return {Path(path).stem for path in found["s3"] if path.startswith(("data/shards/", "data/index/"))}

    names = {file.stem for file in parquet.glob("*.parquet")}
    assert prepare() == names
    assert {one.path for one in store.gets()} == {f"/bucket/set/{name}.parquet" for name in names}

    store.asked.clear()
    store.put("bucket", "set/README.md", b"# A set, described")  # no shard
    assert "Nothing to be done" in run(*s3, "--", "prepare").stdout
    assert [one.path.split("?")[0] for one in store.asked] == ["/bucket"]

    added = next(more.glob("train*"))
    shutil.copy(added, parquet / "train-more.parquet")
    store.put("bucket", "set/train-more.parquet", added.read_bytes())
    planned = run(*s3, "--dry-run", "--", "prepare").stdout
    assert "list_shards" in planned
    assert store.gets() == []
    assert prepare() == {"train-more"}
    assert {one.path for one in store.gets()} == {"/bucket/set/train-more.parquet"}

    store.asked.clear()
    changed = next(more.glob("test*")).read_bytes()
    name = next(file.name for file in parquet.glob("test*"))
    (parquet / name).write_bytes(changed)
    store.put("bucket", f"set/{name}", changed)
    assert prepare() == {Path(name).stem}
    assert {one.path for one in store.gets()} == {f"/bucket/set/{name}"}

    store.asked.clear()  # a job as an executor starts it on another machine: it need not list what is there
    job = ("--target-jobs", f"fetch_shard:shard={Path(name).stem}", "--allowed-rules", "fetch_shard")
    done = run(*s3, *job, "--mode", "remote", "--force", "--nolock")
    assert done.returncode == 0, done.stdout[-4000:]
    assert [(one.method, one.path) for one in store.asked] == [(way, f"/bucket/set/{name}") for way in ("GET", "HEAD")]

    for path in tmp_path.rglob("*"):  # results, logs, and what Snakemake keeps
        if path.is_file() and path.suffix != ".parquet":
            assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes(), path
            assert KEYS["AWS_ACCESS_KEY_ID"].encode() not in path.read_bytes(), path


def test_killed_in_mid_download_it_leaves_nothing_half(run: Run, store: Store, tmp_path: Path) -> None:
    parquet = tmp_path / "parquet"
    write_dataset(parquet, 20, 3, 1)
    for file in parquet.glob("*.parquet"):
        store.put("bucket", f"set/{file.name}", file.read_bytes())
    files = configure(tmp_path, "s3", dataset={"source": "local", "path": "s3://bucket/set"})
    store.go_on.clear()
    store.at = 200_000
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *files, "--", "prepare"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    shards = tmp_path / "results" / "s3" / "data" / "shards"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **quiet) as process:
        while not any(path.stat().st_size for path in shards.rglob("*.incomplete")):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    whole = {file.name: file.read_bytes() for file in parquet.glob("*.parquet")}
    assert [path.name for path in shards.glob("*.parquet") if path.read_bytes() != whole[path.name]] == []
    store.go_on.set()
    store.asked.clear()
    assert run(*files, "--unlock").returncode == 0
    done = run(*files, "--", "prepare")
    assert done.returncode == 0, done.stdout[-4000:]
    assert {path.name: path.read_bytes() for path in shards.glob("*.parquet")} == whole
    assert any(one.range for one in store.gets())  # it went on from the bytes that were there
    assert not list(shards.rglob("*.incomplete"))


def test_a_model_in_a_bucket_is_fetched_again_only_when_it_changed(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("bucket", "models/qwen/config.json", b"{}")
    store.put("bucket", "models/qwen/nested/weights.safetensors", b"weights")
    model = {"source": "local", "path": "s3://bucket/models/qwen"}
    files = configure(tmp_path, "s3", model=model)
    monkeypatch.chdir(ROOT)
    tiny = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())["model"] | {
        "tiny": {"images": 32, "see_steps": 5}
    }
    name = resolve({"model": tiny | model})["experiments"]["base"]["model_name"]
    assert name.startswith("qwen-")
    target = f"results/s3/model/{name}"
    for weights in (b"weights", b"other weights"):
        store.put("bucket", "models/qwen/nested/weights.safetensors", weights)
        store.asked.clear()
        done = run(*files, "--", target)
        assert done.returncode == 0, done.stdout[-4000:]
        assert (tmp_path / target / "nested" / "weights.safetensors").read_bytes() == weights
        assert store.gets()
    store.asked.clear()
    assert "Nothing to be done" in run(*files, "--", target).stdout
    assert store.gets() == []
    planned = run(*files, "--dry-run", "--", "train").stdout
    assert f"input: {target}" in planned


def test_an_object_that_is_no_parquet_is_named(run: Run, store: Store, tmp_path: Path) -> None:
    store.put("bucket", "set/train.parquet", b"no parquet, though its name says so")
    done = run(*configure(tmp_path, "s3", dataset={"source": "local", "path": "s3://bucket/set"}), "--", "prepare")
    assert done.returncode == 1
    assert "radtune: results/s3/data/shards/train.parquet is no readable parquet file (Parquet magic" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("path", "environment", "sentence"),
    [
        ("s3://nowhere/set", {}, "(no such bucket); check dataset.path and AWS_ENDPOINT_URL."),
        ("s3://bucket/nowhere", {}, "s3://bucket/nowhere holds no .parquet file; check dataset.path."),
        ("s3://bucket/set", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "check the connection and AWS_ENDPOINT_URL"),
        ("s3://me:very-secret@bucket/set", {}, "dataset.path is not of the form s3://BUCKET/PREFIX"),
    ],
)
def test_planning_fails_with_one_sentence(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str,
    environment: dict[str, str], sentence: str,
) -> None:  # fmt: skip
    store.put("bucket", "set/train.parquet", b"PAR1")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    done = run(*configure(tmp_path, "s3", dataset={"source": "local", "path": path}), "--dry-run", "--", "prepare")
    assert done.returncode == 1
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("radtune: ")
    assert sentence in last
    assert "Traceback" not in done.stdout
    assert "very-secret" not in done.stdout
