"""Seconds and memory of planning `prepare` for a 25-million-image set: 8,000 shards, by default.

python bench/plan.py [--shards 8000]

The shards are links to one small file; nothing is run but the listing, which decides how many shards there are.
"""

import argparse
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=8000)
    shards = parser.parse_args().shards
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            ["radtune", "draw-phantoms", "--images", "20", "--seed", "0", "--shards", "1", "--out", folder / "one"],
            check=True,
            capture_output=True,
        )
        (folder / "rows").mkdir()
        for i in range(shards):
            os.symlink(folder / "one" / "train-00000-of-00001.parquet", folder / "rows" / f"train-{i:05d}.parquet")
        config = {
            "results": str(folder / "results"),
            "dataset": {"source": "local", "path": str(folder / "rows")},
            "model": {"source": "tiny"},
            "experiments": {},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = ["snakemake", "--cores", "2", "--configfile", str(folder / "config.yaml")]
        subprocess.run([*command, "--until", "list_shards", "--", "prepare"], cwd=ROOT, check=True, capture_output=True)
        began = time.perf_counter()
        plan = [*command, "--dry-run", "--quiet", "all", "--", "prepare"]
        subprocess.run(plan, cwd=ROOT, check=True, capture_output=True)
        seconds = time.perf_counter() - began
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # of the largest child: this one
        print(f"{shards} shards planned in {seconds:.1f} s with {memory:.0f} MiB")


if __name__ == "__main__":
    main()
