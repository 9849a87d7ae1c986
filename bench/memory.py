"""Peak memory of every rule that needs no model, on phantoms of two sizes, beside what the rule asks for; and of those
that read shards, on shards of 150 and 450 MB in row groups of 100 rows, as the hub writes images, and in one, with
images of the data set's size and larger ones.

python bench/memory.py
"""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from radtune.files import read_json, write_jsonl
from radtune.shards import dataset_schema

ROOT = Path(__file__).parents[1]
COLUMNS = {"id": "id", "image": "image", "question": "question", "text": "text"}
RECIPE = {"size": 448, "clip_limit": 2.0}
FORMS = ((100, 512), (0, 324), (0, 512))  # rows in a row group, or 0 for one; a side of the images
# Stands before radtune on the PATH; where a job's errors go tells which job it is.
RADTUNE = """#!{python}
import os, resource, subprocess, sys
code = subprocess.run([{radtune!r}, *sys.argv[1:]]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
with open({record!r}, "a") as file:
    print(os.readlink("/proc/self/fd/2"), peak, file=file)
sys.exit(code)
"""


def measured(folder: Path, *arguments: str) -> dict[str, dict[str, tuple[int, int]]]:
    """Run Snakemake in `folder`: {rule: {log: (mem_mb that the job asked for, MiB at most)}}, by the system's count."""
    tools, record = folder / "tools", folder / "peaks.txt"
    tools.mkdir(exist_ok=True)
    record.unlink(missing_ok=True)
    program = tools / "radtune"
    program.write_text(
        RADTUNE.format(python=sys.executable, radtune=str(Path(sys.executable).parent / "radtune"), record=str(record))
    )
    program.chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
    lines = record.read_text().splitlines()
    peaks = {str(Path(log).relative_to(folder.resolve())): int(peak) for log, peak in (line.split() for line in lines)}
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for rule, text in re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?:    .*\n)*)", done.stdout, re.MULTILINE):
        log, asked = re.search(r"    log: (\S+)", text), re.search(r" mem_mb=(\d+)", text)
        if log and log[1] in peaks:
            found.setdefault(rule, {})[log[1]] = (int(asked[1]) if asked else 0, peaks[log[1]])
    return found


def print_by_rule(images: int) -> None:
    config = {
        "results": "results",
        "dataset": {"source": "phantom", "phantom": {"images": images}},
        "split": {"fractions": {"train": 0.45, "validation": 0.05, "test": 0.5}},
        "model": {"source": "tiny"},
        "experiments": {},
        "limits": {"quarantine_share": 0.5},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for link in ("workflow", "rules", "config", "containers", "envs"):
            (folder / link).symlink_to(ROOT / link)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        found = measured(folder, "--configfile", "config.yaml", "--", "prepare", "preview", "results/config.yaml")
        print(f"{images} images, {6 * images} rows: MiB asked for, at most")
        for rule, jobs in sorted(found.items()):
            print(f"  {rule:16} {', '.join(f'{asked} {most}' for asked, most in sorted(set(jobs.values()))[-3:])}")
        (sharegpt,) = (folder / "results").glob("sharegpt/*/test.json")
        predictions = folder / "predictions.jsonl"
        count = write_predictions(sharegpt, predictions)
        out = ["--out", folder / "scores.json", "--samples", folder / "scores.parquet"]
        most = peak("radtune", "evaluate", "--predictions", predictions, *out)
        print(f"  evaluate         {count} samples, {predictions.stat().st_size / 2**20:.1f} MB: {most:.0f}")


def write_predictions(sharegpt: Path, out: Path) -> int:
    """Each sample answered by the next one's reference."""
    records = read_json(sharegpt)
    rows = []
    for record, other in zip(records, records[1:] + records[:1], strict=True):
        texts = {"prompt": record["messages"][0]["content"], "reference": record["messages"][-1]["content"]}
        texts |= {"prediction": other["messages"][-1]["content"], "image": record["images"][0]}
        figures = {"seconds": 0.1, "tokens": 50, "stopped": True}
        rows.append({key: record[key] for key in ("id", "tag", "group")} | texts | figures)
    write_jsonl(out, rows)
    return len(rows)


def write_shard(path: Path, megabytes: int, row_group: int, side: int) -> None:
    """Noise as JPEG, each image different by what follows its end marker; one row an image."""
    noise = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(noise, "JPEG", quality=50)
    rows = [
        {
            "id": str(i),
            "image": {"bytes": noise.getvalue() + i.to_bytes(4)},
            "question": "<CAPTION>",
            "text": "<CAPTION>x",
        }
        for i in range(megabytes * 1_000_000 // len(noise.getvalue()))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=dataset_schema()), path, row_group_size=row_group or len(rows))


def peak(*command: str | Path) -> float:
    """MiB at most, by the operating system's own count."""
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run(["python", "-c", code, *command], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def print_of_shard(folder: Path, row_group: int, side: int, megabytes: int) -> None:
    shard, index, images = folder / "shard.parquet", folder / "index.parquet", folder / "images.parquet"
    write_shard(shard, megabytes, row_group, side)
    read = ["--shard", shard, "--images", images]
    columns = f"--columns={json.dumps(COLUMNS)}"
    found = {"index": peak("radtune", "index", "--shard", shard, "--split", "train", "--out", index, columns)}
    table = pq.read_table(index, columns=["row", "image_sha256"])
    pq.write_table(table.append_column("shard", pa.array([shard.stem] * len(table))), images)
    recipes = json.dumps({str(folder / "ahead"): RECIPE})
    found["scan"] = peak("radtune", "scan", *read, f"--recipes={recipes}", "--out", folder / "scan.parquet")
    out = ["--out", folder / "out", "--geometry", folder / "geometry.parquet"]
    found["enhance"] = peak("radtune", "enhance", *read, "--size=448", "--clip-limit=2", *out)
    size = shard.stat().st_size
    print(
        f"{size / 1e6:.0f} MB, {len(table)} images of {size / len(table) / 1e3:.0f} KB,",
        f"row groups of {row_group}:" if row_group else "one row group:",
        ", ".join(f"{rule} {most:.0f} MiB" for rule, most in found.items()),
    )


def main() -> None:
    for images in (500, 3000):
        print_by_rule(images)
    for (row_group, side), megabytes in product(FORMS, (150, 450)):
        with tempfile.TemporaryDirectory() as name:
            print_of_shard(Path(name), row_group, side, megabytes)


if __name__ == "__main__":
    main()
