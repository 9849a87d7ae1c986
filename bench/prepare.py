"""Seconds of `snakemake --cores 2 -- prepare`, start included, against the public recipe on the same rows and cores.

python bench/prepare.py [--images 5000] [--shards 2] [--cores 2]

Six rows an image. Images are real slices where RADTUNE_REAL_DATA names them (5,000 to two shards make 570 MB each; the
hub's have 450), else phantoms. Nothing is deleted before both are timed, as a file system that has just lost thousands
of files makes new ones slowly. Where the time goes is printed by rule, from Snakemake's own benchmark files.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).parents[1]


def write_rows(folder: Path, images: int, shards: int) -> None:
    if real := os.environ.get("RADTUNE_REAL_DATA"):
        command = [sys.executable, str(Path(real) / "make_parquet.py"), str(folder)]
    else:
        command = ["radtune", "draw-phantoms", "--seed", "0", "--out", str(folder)]
    subprocess.run([*command, "--images", str(images), "--shards", str(shards)], check=True, capture_output=True)


def timed(command: list[str], **environment: str) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return time.perf_counter() - began


def by_rule(benchmarks: Path) -> dict[str, list[float]]:
    """Jobs, seconds in all, and the largest resident set (MiB), of each rule."""
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for path in benchmarks.rglob("*.jsonl"):
        line = json.loads(path.read_text().splitlines()[-1])
        rule = found[path.relative_to(benchmarks).parts[0].removesuffix(".jsonl")]
        rule[0] += 1
        rule[1] += line["s"]
        rule[2] = max(rule[2], line["max_rss"] or 0)
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("images", 5000), ("shards", 2), ("cores", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    cores = str(arguments.cores)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows", arguments.images, arguments.shards)
        os.sync()  # or the first to run would wait for the disk to take what was written here
        rows = sum(pq.read_metadata(path).num_rows for path in (folder / "rows").glob("*.parquet"))
        config = {
            "results": str(folder / "results"),
            "dataset": {"source": "local", "path": str(folder / "rows")},
            "images": {"enhanced": {"size": 448}},
            "model": {"source": "tiny"},
            "experiments": {},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        run = ["snakemake", "--cores", cores, "--configfile", str(folder / "config.yaml"), "--", "prepare"]
        reference = [sys.executable, str(ROOT / "bench" / "reference_recipe.py"), str(folder / "rows")]
        ours = timed(run)
        theirs = timed([*reference, str(folder / "reference"), cores], HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
        print(f"{rows} rows, {arguments.images} images, {cores} cores")
        for what, seconds in (("prepare", ours), ("public recipe", theirs)):
            print(f"{what} {seconds:.1f} s ({rows / seconds:.0f} rows/s)")
        print(f"ratio {theirs / ours:.1f}")
        for rule, (jobs, seconds, memory) in by_rule(folder / "results" / "benchmarks").items():
            print(f"  {rule:16} {jobs:3} jobs {seconds:6.1f} s, {memory:.0f} MiB at most")


if __name__ == "__main__":
    main()
