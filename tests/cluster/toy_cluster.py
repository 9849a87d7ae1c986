"""What SLURM knows of its jobs, and an eye on the processes of each."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path


def jobs() -> dict[str, dict[str, str]]:
    """Every job that SLURM remembers, by its number: scontrol's fields, and `task`, the rule with its wildcards."""
    text = subprocess.run(["scontrol", "--oneliner", "show", "jobs"], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "JobId" in fields:
            found[fields["JobId"]] = fields | {"task": fields.get("Comment", "").removeprefix("rule_")}
    return found


def wait_for_job(task: str, folder: Path, snakemake: subprocess.Popen[bytes]) -> str:
    """The number of a job of `task` in `folder`, once radtune runs in it (not only Snakemake around it)."""
    while snakemake.poll() is None:
        for number, job in jobs().items():
            mine = job["task"].startswith(task) and job["WorkDir"] == str(folder) and job["JobState"] == "RUNNING"
            if mine and runs_radtune(number):
                return number
        time.sleep(0.1)
    raise AssertionError(f"Snakemake ended before a job of {task} ran; see {folder / 'output.txt'}")


def _processes() -> list[tuple[str, dict[str, str], list[str]]]:
    """Job number, environment and command line of each process that belongs to a SLURM job."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = dict(re.findall(r"([^=\0]+)=([^\0]*)", (process / "environ").read_text(errors="replace")))
            if number := environment.get("SLURM_JOB_ID"):
                command = (process / "cmdline").read_text(errors="replace").split("\0")
                found.append((number, environment, command))
        except OSError:  # it has ended
            continue
    return found


def _is_radtune(words: list[str]) -> bool:
    """Whether a process is the command itself, in an image or outside, and not a shell around it."""
    return any("radtune.cli" in word or Path(word).name == "radtune" for word in words[:3])


def runs_radtune(number: str) -> bool:
    return any(job == number and _is_radtune(words) for job, _, words in _processes())


class Watch(threading.Thread):
    """Looks at the processes of every job each 0.1 s, since SLURM's own times are whole seconds."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder  # of SLURM's logs
        self.together: set[frozenset[str]] = set()  # jobs of which processes lived at the same moment
        self.seen: dict[str, list[float]] = {}  # first and last moment of each job
        self.gpus: dict[str, set[str]] = defaultdict(set)  # CUDA_VISIBLE_DEVICES of each job's radtune
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            found = _processes()
            alive = {number for number, _, _ in found}
            self.together |= {frozenset(pair) for pair in combinations(alive, 2)}
            for number in alive:
                self.seen.setdefault(number, [time.time()] * 2)[1] = time.time()
            for number, environment, words in found:
                if _is_radtune(words):
                    self.gpus[number].add(environment.get("CUDA_VISIBLE_DEVICES", ""))
