"""What Snakemake, Apptainer and SLURM add to a job, and the workflow's own share of the demo's time.

python bench/overhead.py [--jobs 10] [--demo]

Jobs do nothing, one after another; each place is compared with no job at all. Apptainer needs containers/build, SLURM a
cluster that `sbatch` reaches and .venv-slurm (docs/running.md); what is missing is left out. --demo runs the demo
instead, and says in how much of its time no job's command ran: start, planning, dispatch, end.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SNAKEFILE = """
container: {image!r}
rule all:
    input: expand("{{n}}.txt", n=range({jobs}))
rule nothing:
    output: "{{n}}.txt"
    log: "{{n}}.log"
    benchmark: "{{n}}.jsonl"
    resources: mem_mb=300, runtime=5
    shell: "touch {{output}} 2> {{log}}"
"""


def seconds(jobs: int, image: str, program: str | Path, *options: str) -> float:
    with tempfile.TemporaryDirectory(dir=ROOT / "results") as name:  # where a cluster's jobs see it
        (Path(name) / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs, image=image))
        command = [program, "--workflow-profile", "none", "--cores", "1", "--jobs", "1", *options]
        began = time.perf_counter()
        subprocess.run(command, cwd=name, check=True, capture_output=True)
        return time.perf_counter() - began


def demo() -> tuple[float, float]:
    """Seconds of the demo, and those of them in which no job's command ran, by Snakemake's benchmark files."""
    with tempfile.TemporaryDirectory() as name:
        changed = Path(name) / "results.yaml"
        changed.write_text(yaml.safe_dump({"results": f"{name}/results"}))
        began = time.time()
        command = ["snakemake", "--cores", str(os.cpu_count()), "--configfile", "config/demo.yaml", str(changed)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        wall = time.time() - began
        ends = {path: path.stat().st_mtime for path in Path(name).glob("results/benchmarks/**/*.jsonl")}
        runs = [(end - json.loads(path.read_text())["s"], end) for path, end in ends.items()]
    busy, until = 0.0, began
    for start, end in sorted(runs):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return wall, wall - busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--demo", action="store_true")
    arguments = parser.parse_args()
    if arguments.demo:
        wall, own = demo()
        print(f"demo {wall:.0f} s, {own:.1f} s of them without a job's command: {100 * own / wall:.1f} %")
        return
    built = ROOT / "containers" / "build" / "images.yaml"
    image = str(ROOT / yaml.safe_load(built.read_text())["prepare"]) if built.exists() else ""
    slurm = ROOT / ".venv-slurm" / "bin" / "snakemake"
    places: dict[str, list[str | Path]] = {"outside": ["snakemake"]}
    if image and shutil.which("apptainer"):
        places["in Apptainer"] = ["snakemake", "--sdm", "apptainer"]
    if slurm.exists() and shutil.which("sinfo") and not subprocess.run("sinfo", capture_output=True).returncode:
        polling = ["--slurm-init-seconds-before-status-checks", "3", "--seconds-between-status-checks", "3"]
        places["under SLURM"] = [slurm, "--executor", "slurm", "--slurm-status-command", "squeue", *polling]
    for place, command in places.items():
        none, some = seconds(0, image, *command), seconds(arguments.jobs, image, *command)
        print(f"a job {place}: {(some - none) / arguments.jobs:.2f} s; start and end {none:.1f} s")


if __name__ == "__main__":
    main()
