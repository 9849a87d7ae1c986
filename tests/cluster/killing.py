"""Run the small workflow and kill parts of it at moments drawn at random."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "workflow"))
from running import SMALL, place  # noqa: E402

CONFIG = ("--configfile", "config/demo.yaml", "small.yaml")
# Three epochs, each of which ends in a checkpoint; predictions in batches of 8.
KILLED = SMALL | {"training": {"num_train_epochs": 3}, "generation": SMALL["generation"] | {"batch_size": 8}}
PHASES = {
    "prepare": ("draw-phantoms", "index", "scan", "split", "enhance", "sharegpt"),
    "train": ("build-tiny", "teach-to-see", "train"),
    "predict": ("predict",),
}
# How many jobs of each command are killed.
TURNS = {"draw-phantoms": 1, "index": 1, "scan": 2, "split": 1, "enhance": 2, "sharegpt": 1}
TURNS |= {"build-tiny": 1, "teach-to-see": 1, "train": 6, "predict": 4}
RULES = {
    "draw-phantoms": "draw_phantoms",
    "index": "index_shard",
    "scan": "scan_shard",
    "split": "split_samples",
    "enhance": "enhance_shard",
    "sharegpt": "write_sharegpt",
    "build-tiny": "build_tiny",
    "teach-to-see": "teach_tiny",
    "train": "train_adapter",
    "predict": "predict_split",
}
EARLIEST = {"train": 0.4}  # the share of a training that only loads libraries, and is like any other's
HANGS = 1200  # seconds: far more than a whole run takes, on a busy machine too


class Kill(NamedTuple):
    command: str
    victim: str  # tree, snakemake, worker or trainer
    seconds: float  # into the job

    @property
    def phase(self) -> str:
        return next(phase for phase, commands in PHASES.items() if self.command in commands)


def prepare(folder: Path, config: dict[str, Any]) -> Path:
    """Make `folder` a place to run `config` in."""
    folder.mkdir(exist_ok=True)
    (place(folder) / "small.yaml").write_text(yaml.safe_dump(config))
    return folder


def environment() -> dict[str, str]:
    """This Python's commands, and this tree's source."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Snakemake at work in `folder`, its output in log.txt."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *CONFIG, *arguments]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log, text=True)


def run(folder: Path, *arguments: str) -> str:
    """What Snakemake said; it must succeed."""
    (folder / "log.txt").unlink(missing_ok=True)
    code, said = finish(start(folder, *arguments)), (folder / "log.txt").read_text()
    assert code == 0, said[-4000:]
    return said


def seconds(results: Path) -> dict[str, float]:
    """What each command's shortest job took."""
    took = {}
    for command, rule in RULES.items():
        files = [*(results / "benchmarks").glob(f"{rule}.jsonl"), *(results / "benchmarks" / rule).rglob("*.jsonl")]
        took[command] = min(json.loads(file.read_text())["s"] for file in files)
    return took


def finish(process: subprocess.Popen[str]) -> int:
    return process.wait(HANGS)


def at_work(folder: Path) -> Iterator[psutil.Process]:
    """Every process that runs in `folder`, whoever its parent is."""
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def jobs(snakemake: subprocess.Popen[str]) -> dict[psutil.Process, str]:
    """The radtune processes that this Snakemake started, and the command of each."""
    found = {}
    try:
        for process in psutil.Process(snakemake.pid).children(recursive=True):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if len(words) > 2 and Path(words[1]).name == "radtune" and "python" in Path(words[0]).name:
                found[process] = words[2]
    except psutil.NoSuchProcess:
        pass
    return found


def kill(victim: str, snakemake: subprocess.Popen[str], job: psutil.Process) -> str | None:
    """SIGKILL to the victim; which it was, or None where it had ended by itself."""
    try:
        if victim == "trainer" and not job.children():
            victim = "worker"  # it has not started yet
        root = psutil.Process(snakemake.pid)
        family = [*root.children(recursive=True), root]
        (target,) = {"snakemake": [root], "worker": [job], "tree": [root]}.get(victim) or job.children()[:1]
        for process in family if victim == "tree" else [target]:
            process.kill()
    except psutil.NoSuchProcess:
        return None
    return victim


def chain(folder: Path, took: dict[str, float], seed: int) -> list[Kill]:
    """Run to the end through kills and resumes; `took` is what each command's job takes undisturbed.

    A job that has ended before its moment is not killed: the next one's comes sooner, and where there is none, the rule
    runs again.
    """
    draw, took = random.Random(seed), dict(took)
    turns, killed, decks = Counter(TURNS), list[Kill](), defaultdict[str, list[str]](list)
    seen: set[psutil.Process] = set()
    forced: list[str] = []
    while turns.total():
        run(folder, "--unlock")
        snakemake, forced = start(folder, *forced), []
        deadline = time.monotonic() + HANGS
        while snakemake.poll() is None:
            assert time.monotonic() < deadline, "Snakemake hangs"
            new = [(job, name) for job, name in jobs(snakemake).items() if job not in seen and turns[name] > 0]
            if not new:
                time.sleep(0.02)
                continue
            job, name = new[0]
            seen.add(job)
            victims = ["tree", "snakemake", "worker", *(["trainer"] if name == "train" else [])]
            decks[name] = decks[name] or draw.sample(victims, len(victims))
            moment = draw.uniform(EARLIEST.get(name, 0), 0.9) * took[name]
            time.sleep(moment)
            if (
                job.is_running()
                and job.status() != psutil.STATUS_ZOMBIE
                and (who := kill(decks[name][-1], snakemake, job))
            ):
                decks[name].pop()
                turns[name] -= 1
                killed.append(Kill(name, who, round(moment, 2)))
                print(f"{len(killed)}: {killed[-1]}", flush=True)
                finish(snakemake)
                break
            took[name] *= 0.6
        else:
            assert snakemake.returncode == 0, (folder / "log.txt").read_text()[-4000:]
            left = [name for name in TURNS if turns[name]]
            forced = ["--forcerun", *(RULES[name] for name in left)]
            if "train" in left:  # one that is finished would only be collected
                shutil.rmtree(folder / KILLED["results"] / "train", ignore_errors=True)
    run(folder, "--unlock")
    run(folder)
    return killed
