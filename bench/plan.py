"""What planning takes: of the real job when it is finished, and of `prepare` for a 25-million-image set (8,000 shards,
by default).

python bench/plan.py [--shards 8000]

And the core-hours of that set: what indexing a row, looking at and enhancing an image and starting a command take here,
in a small run of the same code, times how often it has to be done.

The first is config/config.yaml with 12 shards from a folder, a model's folder, and the results of jobs whose command
only makes empty files, 30,000 pictures a recipe among them. In the second nothing is run but the listing, which
decides how many shards there are. Shards are links to one small file.
"""

import argparse
import math
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from prepare import write_rows

from radtune.data.index import index, merge_index
from radtune.data.source import list_shards
from radtune.files import read_json
from radtune.images import read
from radtune.images.scan import scan

ROOT = Path(__file__).parents[1]
RUNS = 5
PICTURES = 30_000
MILLIONS, ROWS_AN_IMAGE, SMALL = 25, 6, 300
COLUMNS = {key: key for key in ("id", "image", "question", "text")}
COMMANDS = ("index", "scan", "enhance")  # one of each a shard


def snakemake(folder: Path, *arguments: str) -> str:
    command = ["snakemake", "--cores", "2", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def link_shards(folder: Path, shards: int) -> None:
    drawn = folder.parent / "one"
    command = ["radtune", "draw-phantoms", "--images", "20", "--seed", "0", "--shards", "1", "--out", drawn]
    subprocess.run(command, check=True, capture_output=True)
    folder.mkdir()
    for i in range(shards):
        os.symlink(drawn / "train-00000-of-00001.parquet", folder / f"train-{i:05d}.parquet")


def many(folder: Path, shards: int) -> None:
    """Plan `prepare` for so many shards."""
    link_shards(folder / "rows", shards)
    config = {
        "results": str(folder / "results"),
        "dataset": {"source": "local", "path": str(folder / "rows")},
        "model": {"source": "tiny"},
        "experiments": {},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    files = ("--configfile", str(folder / "config.yaml"))
    snakemake(ROOT, *files, "--until", "list_shards", "--", "prepare")
    began = time.perf_counter()
    snakemake(ROOT, *files, "--dry-run", "--quiet", "all", "--", "prepare")
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # of the largest child: this one
    print(f"{shards} shards planned in {seconds:.1f} s with {memory:.0f} MiB")


# Stands in for the command: writes what it is asked for, which is all that Snakemake looks at.
RADTUNE = f"""#!/bin/bash
stage=$1
for argument in "$@"; do
    path=${{argument#*=}}
    case $path in
    results/*.*) [ -e "$path" ] || touch "$path" ;;
    results/*) [ -e "$path" ] || mkdir -p "$path" ;;
    esac
    case $stage$argument in
    enhance--*) ;;
    enhanceresults/*) [ -d "$path" ] && touch "$path"/{{1..{PICTURES // 12}}}.jpg ;;
    sharegptresults/*) [ -d "$path" ] && touch "$path"/{{train,validation,test,dataset_info}}.json ;;
    train--out=*) touch "$path"/{{train.yaml,trainer_log.jsonl,loss.png,summary.json}} ;;
    esac
done
exit 0
"""


def finished(folder: Path) -> None:
    """Plan the real job when all of it is there."""
    for name in ("workflow", "rules", "config", "containers", "envs"):
        (folder / name).symlink_to(ROOT / name)
    link_shards(folder / "rows", 12)
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").touch()
    places = {"dataset": {"source": "local", "path": "rows"}, "model": {"source": "local", "path": "model"}}
    (folder / "places.yaml").write_text(yaml.safe_dump(places))
    files = ("--configfile", "config/config.yaml", "places.yaml")
    snakemake(folder, *files, "--until", "list_shards")
    (folder / "bin").mkdir()
    (folder / "bin" / "radtune").write_text(RADTUNE)
    (folder / "bin" / "radtune").chmod(0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{path}"
    snakemake(folder, *files)
    os.environ["PATH"] = path
    times = []
    for _ in range(RUNS):
        began = time.perf_counter(), processor()
        plan = snakemake(folder, *files, "--dry-run")
        times.append((time.perf_counter() - began[0], processor() - began[1]))
        assert "Nothing to be done" in plan, plan
        assert "missing provenance" not in plan, plan
    seconds, of_processor = sorted(times)[RUNS // 2]
    pictures = len(list((folder / "results").glob("*/images/*/*/*.jpg")))
    print(f"finished job, {pictures} pictures: planned in {seconds:.1f} s ({of_processor:.1f} of a core)")


def processor() -> float:
    """Seconds that ended children took of a core: what a busy machine does not change."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def projected(folder: Path, shards: int) -> None:
    """Seconds of the processor on a few hundred images, and what they make of MILLIONS of images."""
    write_rows(folder / "rows", SMALL, 1)
    list_shards(folder / "shards.json", "local", folder / "rows")
    read.set_up_process()
    names = [shard["name"] for shard in read_json(folder / "shards.json")["shards"]]
    began = time.process_time()
    for name in names:
        index(folder / "rows" / f"{name}.parquet", "train", folder / "index" / f"{name}.parquet", COLUMNS)
    indexed = time.process_time() - began
    indexes = sorted((folder / "index").iterdir())
    merge_index(indexes, folder / "shards.json", folder / "images.parquet", folder / "manifest.json")
    recipes = {str(folder / "ahead"): {"size": 448, "clip_limit": 2.0}}
    began = time.process_time()
    for name in names:
        shard = folder / "rows" / f"{name}.parquet"
        scan(shard, folder / "images.parquet", folder / "scan" / shard.name, recipes=recipes)
    looked = time.process_time() - began
    began = processor()
    for command in COMMANDS:
        subprocess.run(["radtune", command, "--help"], check=True, capture_output=True)
    started = processor() - began
    row, image = (
        seconds / sum(pq.read_metadata(path).num_rows for path in paths)
        for seconds, paths in ((indexed, indexes), (looked, [folder / "images.parquet"]))
    )
    million = 10**6 * MILLIONS
    hours = [million * ROWS_AN_IMAGE * row / 3600, million * image / 3600, shards * started / 3600]
    print(
        f"{MILLIONS} million images in {shards} shards, core-hours: {hours[0]:.1f} to index ({1000 * row:.3f} ms a "
        f"row), {hours[1]:.1f} to scan and enhance ({1000 * image:.2f} ms an image), {hours[2]:.1f} for the starts of "
        f"{len(COMMANDS) * shards} commands: {math.fsum(hours):.0f} in all"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=8000)
    shards = parser.parse_args().shards
    for measure in (lambda folder: projected(folder, shards), finished, lambda folder: many(folder, shards)):
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name))


if __name__ == "__main__":
    main()
