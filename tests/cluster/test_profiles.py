"""Every profile is dry-run with its own executor: the jobs that it would run, and what each of them asks for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from executors import ROOT, environment

PROFILES = ROOT / "workflow" / "profiles"
ENVIRONMENTS = {"slurm": "slurm", "kubernetes": "kubernetes", "aws": "aws"}  # the others run where Snakemake runs

# What is known before the shards are listed: the jobs of a shard follow later.
JOBS = {
    "demo": {
        **dict.fromkeys(["all", "draw_phantoms", "draw_practice", "enhance_practice", "build_tiny"], 1),
        **dict.fromkeys(["teach_tiny", "train_tiny", "list_shards", "split_samples", "check_texts"], 1),
        **dict.fromkeys(["write_config", "compare_experiments", "merge_index", "write_report", "find_wording"], 1),
        **dict.fromkeys(["build_index", "add_cases"], 1),
        **dict.fromkeys(["write_sharegpt", "find_neighbours"], 2),
        **dict.fromkeys(["check_budget", "train_adapter", "predict_blank", "reword_split", "find_cases"], 3),
        **{"predict_split": 8, "evaluate_split": 4},
    },
    "config": {
        **dict.fromkeys(["all", "fetch_model", "list_shards", "split_samples", "check_texts"], 1),
        **dict.fromkeys(["write_config", "write_report", "compare_experiments", "merge_index", "find_wording"], 1),
        **{"write_sharegpt": 2, "check_budget": 2, "train_adapter": 2, "predict_split": 6, "evaluate_split": 3},
        **{"find_neighbours": 2, "predict_blank": 2, "reword_split": 2},
    },
}
GPU_RULES = {"teach_tiny", "train_tiny", "check_budget", "train_adapter", "predict_split", "predict_blank"}
GPU = {"gpu": "1", "gpu_manufacturer": "nvidia", "scale": "0"}
# What a profile adds to the rules' own: (for rules that ask for nothing, for single rules).
NOTHING: dict[str, dict[str, str]] = {}
ADDED: dict[str, tuple[dict[str, str], dict[str, dict[str, str]]]] = {
    "workstation": ({}, NOTHING),
    "slurm": (
        {"slurm_partition": "cpu", "mem_mb": "2000", "runtime": "60"},
        {rule: {"slurm_partition": "gpu"} for rule in GPU_RULES},
    ),
    "kubernetes": ({"mem_mb": "2000", "disk_mb": "10000"}, NOTHING),
    "aws": ({"mem_mb": "2000"}, NOTHING),
}


@cache
def dry_run(profile: str, config: str, folder: Path) -> tuple[str, Counter[str], dict[str, dict[str, str]]]:
    """Snakemake's whole output; the number of jobs of each rule; and each rule's resources but the derived ones."""
    python = environment(ENVIRONMENTS[profile]) / "bin/python" if profile in ENVIRONMENTS else sys.executable
    chosen = [] if profile == "default" else ["--workflow-profile", f"workflow/profiles/{profile}"]
    run = subprocess.run(
        [
            python,
            "-m",
            "snakemake",
            "--dry-run",
            "--directory",
            folder,
            "--configfile",
            f"config/{config}.yaml",
            *chosen,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{PROFILES / profile}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    table = re.search(r"^job +count\n-[- ]+\n(.*?)^total +\d+", run.stdout, re.DOTALL | re.MULTILINE)
    assert table, run.stdout
    counts = Counter({rule: int(count) for rule, count in (line.split() for line in table[1].splitlines())})
    resources: dict[str, dict[str, str]] = {}
    for rule, block in re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?:    .*\n)+)", run.stdout, re.MULTILINE):
        line = re.search(r"^    resources: (.*)", block, re.MULTILINE)
        asked = dict(entry.split("=", 1) for entry in line[1].split(", ")) if line else {}
        # the same in other units; which data a job is about, as a rule's jobs come in any order; what a run is
        left_out = {"tmpdir", "mem", "mem_mib", "disk", "disk_mib", "aside", "run"}
        resources[rule] = {key: value for key, value in asked.items() if key not in left_out}
    return run.stdout, counts, resources


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles")
    for name in ("workflow", "rules", "config", "containers", "envs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def test_gpu_rules_ask_in_the_words_of_every_place(place: Path) -> None:
    for config, jobs in JOBS.items():
        _, counts, resources = dry_run("default", config, place)
        assert counts == jobs
        for rule, asked in resources.items():
            found = {key: asked[key] for key in GPU if key in asked}
            assert found == (GPU if rule in GPU_RULES else {}), rule


@pytest.mark.slow
@pytest.mark.parametrize("config", JOBS)
@pytest.mark.parametrize("profile", sorted({path.name for path in PROFILES.iterdir()} - {"default"}))
def test_a_profile_runs_the_same_jobs_and_adds_what_its_place_needs(profile: str, config: str, place: Path) -> None:
    text, counts, resources = dry_run(profile, config, place)
    assert f"Using workflow specific profile workflow/profiles/{profile} " in text
    assert counts == JOBS[config]
    default, single = ADDED[profile]
    for rule, own in dry_run("default", config, place)[2].items():
        asked = {key: value for key, value in resources[rule].items() if key != "disk_mb" or key in default}
        assert asked == default | own | single.get(rule, {}), (
            rule
        )  # disk_mb: Snakemake's own guess, of use to pods alone


def test_every_gpu_rule_goes_to_slurms_gpu_partition() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    named = re.findall(r"^rule (\w+):\n(?:(?!rule ).*\n)*?        \*\*gpu_job", rules, re.MULTILINE)
    chosen = yaml.safe_load((PROFILES / "slurm" / "config.yaml").read_text())["set-resources"]
    assert set(named) == {rule for rule, asked in chosen.items() if asked["slurm_partition"] == "gpu"} > GPU_RULES


@pytest.mark.parametrize("profile", sorted(path.name for path in PROFILES.iterdir()))
def test_a_profile_repeats_what_the_default_one_says(profile: str) -> None:
    """The default profile does not load beside another one."""

    def read(name: str) -> dict[str, Any]:
        return yaml.safe_load((PROFILES / name / "config.yaml").read_text())

    found = read(profile)
    for key, value in read("default").items():
        if key == "resources":  # a limit on GPUs is for one machine; a cluster hands them out by itself
            assert (found.get("resources") == value) == ("executor" not in found)
        else:
            assert found[key] == value, key
    assert profile == "default" or found["retries"] >= 1
