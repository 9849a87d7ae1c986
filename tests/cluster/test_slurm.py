"""The demo's prepare and evaluate through a real SLURM of this machine: GPU jobs in turn, a job that is cancelled, one
that runs out of memory, a Snakemake that is killed. Needs root on Debian (see start_slurm.sh); takes five minutes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from executors import ROOT, copy_tree, environment
from toy_cluster import Watch, jobs, wait_for_job

from radtune import files
from radtune.data.phantom import write_dataset, write_practice
from radtune.train import tiny

HERE = Path(__file__).parent
CONFIG = ["--configfile", "config/demo.yaml", "small.yaml"]
TARGETS = ["--", "prepare", "evaluate"]
ON_SLURM = ["--workflow-profile", "profile", *CONFIG, *TARGETS]
STARTED: list[subprocess.Popen[bytes]] = []
# Few jobs, as each takes seconds to start; two experiments that do not train, so that two want the one GPU at once.
SMALL: dict[str, Any] = {
    "results": "results/small",
    "dataset": {"source": "local", "path": "phantoms"},
    "images": {"enhanced": {"size": 128}},
    "model": {"source": "local", "path": "model"},
    "training": {"image_max_pixels": 4096},
    "generation": {"max_new_tokens": 8, "reworded": 0},
    "experiments": {"lora": {"training": None}} | dict.fromkeys(("lora_worded", "lora_cases"), False),
    "limits": {"quarantine_share": 0.2},
}


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """A running SLURM; what is seen of its jobs."""
    if os.geteuid() != 0:
        pytest.skip("slurmd and munged start jobs for others, which takes root")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        subprocess.run([HERE / "start_slurm.sh", folder], check=True)
        watch = Watch(folder)
        watch.start()
        yield watch
        watch.over.set()
    finally:
        for process in STARTED:
            process.kill()  # what a failed test left behind
        subprocess.run([HERE / "stop_slurm.sh", folder], check=False)


@pytest.fixture(scope="module")
def template(images: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with its images, a train and a test shard and a random Qwen3-VL."""
    folder = tmp_path_factory.mktemp("template")
    copy_tree(folder, images)
    files.write_text(folder / "small.yaml", yaml.safe_dump(SMALL))
    write_dataset(folder / "phantoms", 24, 3, 1)
    (folder / "phantoms/validation-00000-of-00001.parquet").unlink()
    write_practice(folder / "practice", 8, 0)
    tiny.build(folder / "model", [folder / "practice/train.json"])
    return folder


def place(folder: Path, template: Path, **changes: Any) -> Path:
    """Fill `folder`; its profile is the delivered one but for the waiting and for `changes` of rules' resources."""
    shutil.copytree(template, folder, symlinks=True, dirs_exist_ok=True)
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    # most jobs here take less than these seconds; where one takes longer, it is asked for 21 seconds later
    profile |= {"slurm-init-seconds-before-status-checks": 11, "latency-wait": 5}
    profile["set-resources"] |= changes
    files.write_text(folder / "profile/config.yaml", yaml.safe_dump(profile))
    return folder


def start(folder: Path, *command: str | Path) -> subprocess.Popen[bytes]:
    """Start a command that finds Snakemake, whose jobs find radtune in the images alone."""
    others = [name for name in os.environ["PATH"].split(os.pathsep) if not (Path(name) / "radtune").exists()]
    path = os.pathsep.join([str(environment("slurm") / "bin"), *others])
    # root without all capabilities, as in a container, needs Apptainer's user namespace
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src"), "APPTAINER_USERNS": "1"}
    with (folder / "output.txt").open("a") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT)
    STARTED.append(process)
    return process


def finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    assert process.wait() == 0, (folder / "output.txt").read_text()[-6000:]


@pytest.fixture(scope="module")
def undisturbed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same targets without SLURM."""
    folder = place(tmp_path_factory.mktemp("undisturbed"), template)
    finish(start(folder, "snakemake", "--cores", "2", "--sdm", "apptainer", *CONFIG, *TARGETS), folder)
    return folder


@pytest.fixture(scope="module")
def disturbed(watch: Watch, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run through SLURM, where one job is cancelled and one asks for too little memory at first."""
    too_little = "300 if attempt == 1 and wildcards.experiment == 'base' else 4000"
    gpu = {"slurm_partition": "gpu", "mem_mb": too_little}
    folder = place(tmp_path_factory.mktemp("disturbed"), template, predict_split=gpu)
    run = start(folder, "snakemake", *ON_SLURM)
    subprocess.run(["scancel", wait_for_job("scan_shard", folder, run)], check=True)
    finish(run, folder)
    return folder


def contents(folder: Path) -> dict[str, Any]:
    """What a run made, by path: digests, and predictions without the seconds that they took."""
    results = folder / "results" / "small"
    made: dict[str, Any] = {}
    for name in ("data", "images", "sharegpt", "predict", "evaluate"):
        for path in sorted((results / name).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                made[str(path.relative_to(results))] = sha256(path.read_bytes()).hexdigest()
    for path in (results / "predict").rglob("*.jsonl"):
        rows = files.read_jsonl(path)
        made[str(path.relative_to(results))] = [{**row, "seconds": None} for row in rows]
    return made


def tasks(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The jobs of a folder in their order, by task."""
    found: dict[str, list[dict[str, str]]] = {}
    for job in jobs().values():
        if job["WorkDir"] == str(folder):
            found.setdefault(job["task"], []).append(job)
    return found


def states(found: list[dict[str, str]]) -> list[str]:
    return [job["JobState"] for job in found]


@pytest.mark.slow
def test_what_slurm_made_equals_an_undisturbed_run(disturbed: Path, undisturbed: Path) -> None:
    made = contents(undisturbed)
    assert len(made) > 40
    assert contents(disturbed) == made


@pytest.mark.slow
def test_a_cancelled_job_and_one_out_of_memory_are_retried_with_more(disturbed: Path, watch: Watch) -> None:
    found = tasks(disturbed)
    twice = {task: of for task, of in found.items() if len(of) > 1}
    (cancelled,) = (of for task, of in twice.items() if task.startswith("scan_shard"))
    (too_large,) = (of for task, of in twice.items() if task.startswith("predict_split"))
    assert len(twice) == 2
    assert states(cancelled) == ["CANCELLED", "COMPLETED"]
    less, more = (int(job["MinMemoryNode"].removesuffix("M")) for job in cancelled)
    assert less < more
    # without cgroups SLURM calls the job failed; that it was for its memory stands in the log
    assert states(too_large) == ["FAILED", "COMPLETED"]
    step = f"StepId={too_large[0]['JobId']}.0 exceeded memory limit"
    assert step in (watch.folder / "log/slurmd.log").read_text()
    assert [job["MinMemoryNode"] for job in too_large] == ["300M", "4000M"]


@pytest.mark.slow
def test_gpu_jobs_hold_the_one_gpu_in_turn_and_others_run_beside(disturbed: Path, watch: Watch) -> None:
    found = {job["JobId"]: job for of in tasks(disturbed).values() for job in of}
    on_gpu = {number: job for number, job in found.items() if job["task"].startswith("predict_split")}
    for number, job in found.items():
        partition, asked, given = ("gpu", "gres:gpu:1", {"0"}) if number in on_gpu else ("cpu", None, {""})
        assert (job["Partition"], job.get("TresPerJob")) == (partition, asked)
        assert watch.gpus.get(number, given) == given  # a short job may not have been seen
        assert job["Requeue"] == "0"  # SLURM starts none again by itself
    assert set(on_gpu) < set(watch.gpus)
    # one waited until the other had ended, though a core was free
    assert [a for a in on_gpu.values() for b in on_gpu.values() if a["SubmitTime"] < b["EndTime"] <= a["StartTime"]]
    assert not [pair for pair in watch.together if pair <= on_gpu.keys()]
    assert [pair for pair in watch.together if pair <= found.keys() - on_gpu.keys()]


@pytest.mark.slow
def test_after_a_kill_resume_runs_no_job_twice_at_once(disturbed: Path, watch: Watch, tmp_path: Path) -> None:
    folder = place(tmp_path / "killed", disturbed)
    for name in ("predict", "evaluate"):
        shutil.rmtree(folder / "results" / "small" / name)
    run = start(folder, "snakemake", *ON_SLURM)
    orphan = wait_for_job("predict_split", folder, run)
    refused = start(folder, folder / "workflow/profiles/slurm/resume.sh", *ON_SLURM)
    assert refused.wait() == 1
    assert "Snakemake still runs" in (folder / "output.txt").read_text()
    run.send_signal(signal.SIGKILL)
    run.wait()
    killed = time.time()
    finish(start(folder, folder / "workflow/profiles/slurm/resume.sh", *ON_SLURM), folder)

    found = tasks(folder)
    # what was finished stayed
    rules = {task.split("_wildcards")[0] for task in found}
    assert rules == {"predict_split", "find_neighbours", "evaluate_split", "compare_experiments"}
    predicted = [of for task, of in found.items() if task.startswith("predict_split")]
    assert [states(of) for of in predicted] == [["CANCELLED", "COMPLETED"]] * 2
    for of in found.values():
        for before, after in pairwise(of):
            assert after["StartTime"] >= before["EndTime"]
            assert frozenset({before["JobId"], after["JobId"]}) not in watch.together
            assert watch.seen[after["JobId"]][0] > watch.seen.get(before["JobId"], [0, 0])[1]
    assert watch.seen[orphan][1] > killed  # it did go on
    assert contents(folder) == contents(disturbed)
