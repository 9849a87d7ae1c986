"""Processes killed at random moments, a full disk, a read-only one, two Snakemakes: what is done stays done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import killing
import pytest
import yaml
from killing import CONFIG, KILLED, ROOT

pytestmark = pytest.mark.slow
SEED = 9
TREES = ("data", "images", "sharegpt", "model", "predict", "evaluate")
# Snakemake killed at one moment: a folder of images half removed; enhanced images in place, but not yet recorded.
MOMENTS = {
    "half removed": """
rmtree = shutil.rmtree
def cut_off(path, *args, **options):
    if "images/enhanced" in str(path):
        next(Path(path).glob("*.jpg")).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    rmtree(path, *args, **options)
shutil.rmtree = cut_off
""",
    "not recorded": """
finished = FilePersistence.finished
async def cut_off(self, job):
    if job.rule.name == "enhance_shard":
        os.kill(os.getpid(), signal.SIGKILL)
    await finished(self, job)
FilePersistence.finished = cut_off
""",
}
IMPORTS = """
import os, shutil, signal
from pathlib import Path
from snakemake.cli import main
from snakemake.persistence.file import FilePersistence
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    folder = killing.prepare(tmp_path_factory.mktemp("undisturbed"), KILLED)
    killing.run(folder)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """disk("size=1m"): a disk of its own as the folder results, then changed to that."""
    results = tmp_path / "results"
    results.mkdir()
    mounted = []

    def mount(options: str) -> None:
        options = f"remount,{options}" if mounted else options
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", results], check=True)
        mounted.append(options)

    yield mount
    subprocess.run(["umount", results], check=True)


def names(results: Path) -> set[str]:
    """Every file of a run, but for what Snakemake writes about it."""
    files = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    # a scan that ran again makes pictures ahead that no job takes, as what it says has not changed
    files = {name for name in files if not name.startswith("images/.ahead/")}
    # its mark in a folder goes where a job whose workflow was killed puts the same folder there once more
    files = {name for name in files if not name.endswith("/.snakemake_timestamp")}
    return {name for name in files if name.split("/")[0] not in ("logs", "benchmarks")}


def contents(results: Path) -> dict[str, Any]:
    """What every file holds, that two runs of the same config have in common: not the seconds of an answer."""
    found: dict[str, Any] = {}
    for name in names(results):
        path = results / name
        if name.startswith("predict/"):
            found[name] = [{**json.loads(line), "seconds": 0} for line in path.read_text().splitlines()]
        elif name.startswith(tuple(f"{tree}/" for tree in TREES)) or name.endswith("adapter/adapter_model.safetensors"):
            found[name] = path.read_bytes()
    return found


def differing(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def test_the_documented_command_takes_a_run_through_twenty_kills(undisturbed: Path, tmp_path: Path) -> None:
    assert "snakemake --unlock && snakemake" in (ROOT / "docs" / "running.md").read_text()
    whole = undisturbed / "results" / "small"
    folder = killing.prepare(tmp_path, KILLED)
    killed = killing.chain(folder, killing.seconds(whole), SEED)
    assert len(killed) == sum(killing.TURNS.values())
    assert all(Counter(kill.phase for kill in killed)[phase] >= 4 for phase in killing.PHASES), killed
    assert {kill.victim for kill in killed} >= {"tree", "snakemake", "worker"}
    deadline = time.monotonic() + 600
    while orphans := [process.cmdline() for process in killing.at_work(folder)]:
        assert time.monotonic() < deadline, orphans
        time.sleep(0.2)
    results = folder / "results" / "small"
    assert differing(contents(whole), contents(results)) == []
    assert len([name for name in contents(results) if name.endswith(".jpg")]) == 24
    assert names(results) == names(whole)  # and so nothing half-written is left, under whatever name
    assert "Nothing to be done" in killing.run(folder)  # the orphans made nothing stale


@pytest.mark.parametrize("moment", MOMENTS)
def test_images_cut_off_at_the_worst_moment_are_made_again(tmp_path: Path, moment: str) -> None:
    folder = killing.prepare(tmp_path, KILLED)
    assert prepare(folder)[0] == 0

    def enhanced() -> dict[str, bytes]:
        images = folder / "results" / "small" / "images" / "enhanced"
        return {path.name: path.read_bytes() for path in images.rglob("*.jpg")}

    before = enhanced()
    assert len(before) == 24
    other = {"images": {"enhanced": {**KILLED["images"]["enhanced"], "clahe": {"clip_limit": 3.0}}}}
    (folder / "other.yaml").write_text(yaml.safe_dump(other))
    killed_there = [sys.executable, "-c", f"{IMPORTS}{MOMENTS[moment]}main()"]
    killed = subprocess.run(
        [*killed_there, "--cores", "1", *CONFIG, "other.yaml", "--", "prepare"],
        cwd=folder,
        env=killing.environment(),
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert enhanced() != before
    killing.run(folder, "--unlock")
    assert prepare(folder)[0] == 0  # by the config of before
    assert enhanced() == before


def prepare(folder: Path) -> tuple[int, str]:
    (folder / "log.txt").unlink(missing_ok=True)
    code = killing.finish(killing.start(folder, "--", "prepare"))
    return code, (folder / "log.txt").read_text()


@needs_root
def test_a_disk_that_cannot_be_written_is_one_sentence_and_nothing_is_lost(
    undisturbed: Path, tmp_path: Path, disk: Callable[[str], None]
) -> None:
    folder = killing.prepare(tmp_path, KILLED)
    disk("size=300k")
    code, said = prepare(folder)
    assert code == 1
    assert "radtune: results/small/data/phantoms: No space left on device; make room there, then run" in said
    assert "Traceback" not in said

    disk("size=8m")
    (folder / "fill.sh").write_text("cat /dev/zero > results/fill || true")
    first = killing.start(folder, "--", str(Path("results/small/data/shards.json")))
    assert killing.finish(first) == 0
    subprocess.run(["bash", "fill.sh"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    code, said = prepare(folder)  # now the logs have no room either
    assert code == 1
    assert "radtune: results/small: No space left on device; make room there, then run" in said

    (folder / "results" / "fill").unlink()
    disk("ro")
    code, said = prepare(folder)
    assert code == 1
    assert said.strip().splitlines()[-1].startswith("radtune: results/small: Read-only file system; make it")
    assert "Traceback" not in said

    disk("rw")
    code, said = prepare(folder)
    assert code == 0, said[-4000:]
    assert "rule draw_phantoms" not in said  # it was done
    found = {
        name: value
        for name, value in contents(undisturbed / "results" / "small").items()
        if name.startswith(("data/", "images/", "sharegpt/")) and "wording" not in name and "reworded" not in name
    }  # what other targets ask for apart
    assert differing(found, contents(folder / "results" / "small")) == []
    assert not [name for name in names(folder / "results" / "small") if name.endswith((".tmp", ".owner"))]


@needs_root
def test_a_training_on_a_full_disk_goes_on_when_there_is_room(
    undisturbed: Path, tmp_path: Path, disk: Callable[[str], None]
) -> None:
    out = tmp_path / "results" / "lora"
    whole = undisturbed / "results" / "small"
    settings = yaml.safe_load((whole / "train" / "lora" / "train.yaml").read_text())
    given = {"model": "model_name_or_path", "dataset-dir": "dataset_dir", "media-dir": "media_dir"}
    given |= {"dataset": "dataset", "eval-dataset": "eval_dataset"}
    flags = [f"--{flag}={settings.pop(key)}" for flag, key in given.items()]
    del settings["output_dir"]
    radtune = [sys.executable, "-c", "from radtune.cli import main; main()"]
    command = [*radtune, "train", f"--settings={json.dumps(settings)}", *flags, f"--out={out}", f"--weights={out}/w"]

    def train() -> tuple[int, str]:
        # one thread, as a rule's job has: sums of another number of them differ in the last bit
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=undisturbed, env=alone, stderr=subprocess.PIPE, text=True, errors="replace", check=False
        )
        return done.returncode, done.stderr

    disk("size=2500k")  # room for the weights of a checkpoint, not for its optimiser
    code, said = train()
    assert code == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"radtune: {out}/run-"), said[-2000:]
    assert "No space left on device; make room there, then run the same command again: what is done is kept." in last
    disk("size=64m")
    code, said = train()
    assert code == 0, said[-4000:]
    weights = "adapter_model.safetensors"
    assert (out / "w" / weights).read_bytes() == (whole / "train" / "lora" / "adapter" / weights).read_bytes()


def test_a_second_snakemake_says_that_the_folder_is_taken_and_disturbs_nothing(tmp_path: Path) -> None:
    folder = killing.prepare(tmp_path, KILLED)
    first = killing.start(folder, "--", "prepare")
    while not killing.jobs(first):
        assert first.poll() is None
        time.sleep(0.02)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *CONFIG, "--", "prepare"],
        cwd=folder,
        env=killing.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert first.poll() is None, "the first ended too early"
    assert done.returncode == 1
    assert "Directory cannot be locked" in done.stderr
    assert str(folder) in done.stderr
    assert killing.finish(first) == 0
