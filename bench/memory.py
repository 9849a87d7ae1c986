"""Peak memory of the workers that read shards, on shards of 150 and 450 MB: in row groups of 100 rows, as the hub
writes images, and in one.

python bench/memory.py
"""

import io
import json
import subprocess
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from radtune.shards import dataset_schema

COLUMNS = {"id": "id", "image": "image", "question": "question", "text": "text"}
RECIPES = {"recipes": {"enhanced": {"size": 448, "clip_limit": 2.0}}, "code": ""}


def write_shard(path: Path, megabytes: int, row_group: int) -> None:
    """Noise as JPEG, each image different by what follows its end marker; one row an image."""
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)).save(noise, "JPEG", quality=50)
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


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for row_group, megabytes in product((100, 0), (150, 450)):
            folder = Path(name) / f"{row_group}-{megabytes}"
            folder.mkdir()
            shard, index, images = folder / "shard.parquet", folder / "index.parquet", folder / "images.parquet"
            write_shard(shard, megabytes, row_group)
            (folder / "shards.json").write_text(json.dumps({"shards": []}))
            read = ["--shard", shard, "--images", images]
            found = {
                "index": peak(
                    "radtune", "index", "--shard", shard, "--split", "train", "--out", index,
                    f"--columns={json.dumps(COLUMNS)}",
                )
            }  # fmt: skip
            table = pq.read_table(index, columns=["row", "image_sha256"])
            pq.write_table(table.append_column("shard", pa.array([shard.stem] * len(table))), images)
            ahead = [f"--recipes={json.dumps(RECIPES)}", "--ahead", folder / "ahead"]
            found["scan"] = peak("radtune", "scan", *read, *ahead, "--out", folder / "scan.parquet")
            out = ["--out", folder / "out", "--geometry", folder / "geometry.parquet"]
            found["enhance"] = peak("radtune", "enhance", *read, "--size=448", "--clip-limit=2", *out)
            size = shard.stat().st_size / 1e6
            groups = f"row groups of {row_group}" if row_group else "one row group"
            print(
                f"{size:.0f} MB, {len(table)} images, {groups}:",
                ", ".join(f"{k} {v:.0f} MiB" for k, v in found.items()),
            )


if __name__ == "__main__":
    main()
