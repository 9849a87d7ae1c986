"""Seconds and MiB of `radtune preview` on the full set: 180,000 rows of 30,000 images, made up from 20 drawn ones.

python bench/preview.py [--images 30000]
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from radtune.data.index import index, merge_index
from radtune.data.source import list_shards
from radtune.files import write_json, write_text
from radtune.images.scan import scan

COLUMNS = {key: key for key in ("id", "image", "question", "text")}
DRAWN, SPLITS = 20, ("train", "validation", "test")
PEAK = """
from pathlib import Path
from radtune.cli import main
try:
    main()
finally:
    print(next(line.split()[1] for line in Path("/proc/self/status").open() if line.startswith("VmHWM")))
"""


def write_tables(folder: Path, images: int) -> None:
    """All that the preview reads, in `folder`: each drawn image and its texts many times, under other names."""
    command = ["radtune", "draw-phantoms", "--images", str(DRAWN), "--seed", "0", "--shards", "1"]
    subprocess.run([*command, "--out", folder / "shards"], check=True, capture_output=True)
    shard = folder / "shards" / "train-00000-of-00001.parquet"
    for other in set((folder / "shards").glob("*.parquet")) - {shard}:
        other.unlink()
    list_shards(folder / "shards.json", "local", folder / "shards")
    index(shard, "train", folder / "index" / shard.name, COLUMNS)
    merge_index([folder / "index" / shard.name], folder / "shards.json", folder / "owned.parquet", folder / "m.json")
    recipe = {str(folder / "images"): {"size": 448, "clip_limit": 2.0}}
    scan(shard, folder / "owned.parquet", folder / "looks.parquet", recipes=recipe)
    looks = [row for row in pq.read_table(folder / "looks.parquet").to_pylist() if not row["reason"]]
    owners = {row["image_sha256"]: row for row in pq.read_table(folder / "owned.parquet").to_pylist()}
    places = {row["image_sha256"]: row for row in pq.read_table(folder / "images" / shard.name).to_pylist()}
    texts: dict[str, dict[str, str]] = {}
    for row in pq.read_table(folder / "index" / shard.name).to_pylist():
        texts.setdefault(row["image_sha256"], {})[row["tag"]] = row["raw"].partition(">")[2]
    owned, seen, geometry, samples = [], [], [], []
    entries: dict[str, list[str]] = {split: [] for split in SPLITS}
    for i in range(images):
        look = looks[i % len(looks)]
        own, sha256 = look["image_sha256"], hashlib.sha256(str(i).encode()).hexdigest()
        new = {"image_sha256": sha256}
        owned.append(owners[own] | new)
        seen.append(look | new)
        geometry.append(places[own] | new)
        split = SPLITS[0 if i % 20 else 1 + i // 20 % 2]
        group, id = f"{i // 150:016x}", f"00000000-0000-0000-0000-{i:012d}"
        for tag, text in texts[own].items():
            row = {"sample": id, "tag": tag, "split": split, "group": group, "status": "kept", "box": look["box"]}
            samples.append(owners[own] | row | new | {"id": id, "reason": None})
            turns = [("user", "<image>What does this head CT show?"), ("assistant", text)]
            messages = [{"role": role, "content": content} for role, content in turns]
            entry = {"id": id, "tag": tag, "group": group, "messages": messages}
            entries[split].append(json.dumps(entry | {"images": [f"images/{shard.stem}/{places[own]['file']}"]}))
    for name, rows in (("owners", owned), ("scan", seen), ("geometry", geometry), ("samples", samples)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    for split in SPLITS:
        write_text(folder / "sharegpt" / f"{split}.json", "[\n" + ",\n".join(entries[split]) + "\n]\n")
    none = dict.fromkeys([*SPLITS, "validation_in_train", "test_in_train"], 0)
    found = dict.fromkeys(("images", "groups", "like images"), none)
    write_json(folder / "leakage.json", {"as_delivered": found, "after": found, "by": "group"})
    split_ = {"by": "group", "asked": {}, "got": {}, "groups": images // 150, "largest_group": 900}
    counts = {"unique": images, "with_box": images, "without_box": 0, "low_confidence": 0}
    write_json(folder / "checks.json", {"images": counts, "forms": {}, "disagreements": {}, "split": split_})
    for name in ("quarantine", "disagreements"):
        (folder / f"{name}.jsonl").touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=30000)
    parser.add_argument("--make", type=Path, help="write the tables to this folder and stop")
    asked = parser.parse_args()
    if asked.make:
        write_tables(asked.make, asked.images)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # in a process of its own: the peak of a child starts at its parent's
        subprocess.run([sys.executable, __file__, "--images", str(asked.images), "--make", folder], check=True)
        tables = {"samples-table": "samples.parquet", "images": "owners.parquet", "sharegpt": "sharegpt"}
        tables |= {"scan": "scan.parquet", "geometry": "geometry.parquet", "shards": "shards", "media-dir": "."}
        tables |= {key: f"{key}.json" for key in ("leakage", "checks")}
        tables |= {key: f"{key}.jsonl" for key in ("quarantine", "disagreements")}
        flags = [f"--{key}={folder / value}" for key, value in tables.items()]
        command = [sys.executable, "-c", PEAK, "preview", *flags, f"--out={folder / 'page.html'}"]
        began, before = time.perf_counter(), os.times().children_user
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, of_processor = time.perf_counter() - began, os.times().children_user - before
        rows = pq.read_metadata(folder / "samples.parquet").num_rows
        size = sum(path.stat().st_size for path in (folder / "sharegpt").iterdir()) / 1e6
        page = (folder / "page.html").stat().st_size / 1e6
    print(
        f"{rows} rows ({size:.0f} MB of ShareGPT) of {asked.images} images: {seconds:.1f} s ({of_processor:.1f} of a "
        f"core), {int(done.stdout.split()[-1]) // 1024} MiB, a page of {page:.1f} MB"
    )


if __name__ == "__main__":
    main()
