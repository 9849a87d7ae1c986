"""What rules ask for: the memory that their jobs take, and one GPU job at a time."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from running import ROOT, SMALL, place, snakemake

from radtune.data.phantom import encode
from radtune.data.phantom_draw import draw, draw_patient

sys.path.append(str(ROOT / "bench"))
from memory import measured

RULE = re.compile(r"^(?:rule|checkpoint) (\w+):\n(?:(?!rule |checkpoint ).*\n)*?    shell:", re.MULTILINE)
SNAKEMAKE = 300  # MB of what a job asks for are not for its command
GPU_JOB = """
rule one:
    output: "one.txt"
    resources: gpu=1
    shell: "date +%s.%N > {output}; sleep 2; date +%s.%N >> {output}"
rule two:
    output: "two.txt"
    resources: gpu=1
    shell: "date +%s.%N > {output}; sleep 2; date +%s.%N >> {output}"
"""
RETRY = """
include: "rules/common.smk"
CONFIG["limits"]["gpu_memory_gib"] = 20
rule fails_once:
    input: model="model"
    output: "done.txt"
    resources: **gpu_job(hours=1, mem_mb=memory(100, per_mb=2, of="model"))
    shell:
        "echo {resources.gpu} {resources.limit} {resources.mem_mb} {resources.runtime} >> asked.txt;"
        " [ $(wc -l < asked.txt) -gt 1 ] && touch {output}"
"""


@pytest.mark.parametrize("profile", [True, False])
def test_the_default_profile_runs_one_gpu_job_at_a_time(tmp_path: Path, profile: bool) -> None:
    (tmp_path / "Snakefile").write_text(GPU_JOB)
    chosen = str(ROOT / "workflow" / "profiles" / "default") if profile else "none"
    done = snakemake(tmp_path, "--workflow-profile", chosen, "--", "one", "two")
    assert done.returncode == 0, done.stdout
    (_, end), (begin, _) = sorted(
        [float(line) for line in (tmp_path / f"{name}.txt").read_text().splitlines()] for name in ("one", "two")
    )
    assert (end <= begin) is profile


def test_every_rule_says_how_much_memory_it_takes() -> None:
    for file in (ROOT / "rules").glob("*.smk"):
        for rule in re.findall(r"^(?:rule|checkpoint) .*(?:\n(?:[ ].*)?)*", file.read_text(), re.MULTILINE):
            if "    shell:\n" in rule:
                assert "        mem_mb=memory(" in rule or "        **gpu_job(" in rule, rule.splitlines()[0]


def test_a_retry_asks_for_twice_as_much(tmp_path: Path) -> None:
    folder = place(tmp_path)
    (folder / "Snakefile").write_text(RETRY)
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(bytes(3 * 2**20))
    done = snakemake(folder, "--configfile", "config/demo.yaml", "--workflow-profile", "none", "--retries", "1")
    assert done.returncode == 0, done.stdout
    assert (folder / "asked.txt").read_text().splitlines() == [
        "1 --gpu-memory-gib=20 406 60",
        "1 --gpu-memory-gib=20 812 120",
    ]


def test_training_has_a_core_for_each_worker_and_its_check_knows_its_cards(tmp_path: Path) -> None:
    folder = place(tmp_path)

    def asked(gib: int | None, *arguments: str) -> tuple[list[str], set[str]]:
        """The threads of each training, and the cards that their checks count with."""
        limits = {"limits": SMALL["limits"] | {"gpu_memory_gib": gib}}
        training = {"training": {"preprocessing_num_workers": 4, "dataloader_num_workers": 2}}
        (folder / "small.yaml").write_text(yaml.safe_dump(SMALL | limits | training))
        dry = ["--configfile", "config/demo.yaml", "small.yaml", "--cores", "8", "-n", "-p", *arguments]
        done = snakemake(folder, *dry, "--until", "train_adapter")
        assert done.returncode == 0, done.stdout
        jobs = re.findall(
            r"^rule train_adapter:\n(?:(?!rule ).*\n)*?    (?:threads: (\d+)|resources:)", done.stdout, re.M
        )
        return jobs, set(re.findall(r"--training-gpus=(\d)", done.stdout))

    several = ("--resources", "gpu=2", "--set-resources", "train_adapter:gpu=2")
    assert asked(24, *several) == (["6"], {"2"})
    assert asked(24, "--resources", "gpu=1", *several[2:]) == (["4"], {"1"})  # Snakemake cuts what is above its limit
    assert asked(None) == ([""], {"1"})


@pytest.mark.slow
def test_no_job_takes_more_memory_than_its_rule_asks_for(tmp_path: Path) -> None:
    folder = place(tmp_path)
    lora = {"training": {"max_steps": 1, "cutoff_len": 800}, "retrieval": {"used_in": "training"}}
    cleaning = {"cleaning": {"action": "drop", "kinds": ["rare"]}}
    every = cleaning | {"generation": {"max_new_tokens": 16}}  # every rule, with black pictures and other wordings
    config = SMALL | every | {"experiments": SMALL["experiments"] | {"lora": lora}}
    (folder / "new.jpg").write_bytes(encode(draw(draw_patient(rng := np.random.default_rng(0)), 0.5, rng)))
    (folder / "small.yaml").write_text(yaml.safe_dump(config | {"read": {"path": "new.jpg"}}))
    demo = ("--configfile", "config/demo.yaml", "small.yaml")
    found = measured(folder, *demo, "--", "preview", "export", "report", "prepare", "read")
    # the shell took what scan_shard had made, so only again is it made by enhance_shard itself
    found |= measured(folder, *demo, "--forcerun", "enhance_shard", "--until", "enhance_shard", "--", "prepare")
    jobs = {log: job for rule in found.values() for log, job in rule.items()}
    assert {log: job for log, job in jobs.items() if job[1] > job[0] - SNAKEMAKE} == {}
    rules = {name for file in (ROOT / "rules").glob("*.smk") for name in RULE.findall(file.read_text())}
    # what the shell does alone, nothing to fetch, a program that has an environment of its own, no encoder of texts
    alone = {"fetch_shard", "join_chunks", "export_model"}
    assert rules - set(found) == {*alone, "fetch_model", "predict_by_vllm", "embed_answers"}
