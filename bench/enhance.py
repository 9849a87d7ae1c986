"""Where an image's time goes in the one pass that decodes it, against the library calls alone; and starts of commands.

python bench/enhance.py

One core, one run; 512x512 JPEG (real slices where RADTUNE_REAL_DATA names them, else phantoms) to 448x448. The pass is
the scan stage with one recipe made ahead: decode, rectangle, hash, CLAHE, letterbox, encode, write.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from prepare import write_rows

from radtune.images import overlay, read
from radtune.images.clahe import clahe
from radtune.images.enhance import Recipe, letterbox, render
from radtune.images.scan import likeness, scan, thumbnail

IMAGES, ROUNDS = 400, 3
RECIPE = Recipe(448, 2.0)
COMMANDS = ("list-shards", "index", "merge-index", "scan", "split", "check", "enhance", "sharegpt")


def each(name: str, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
    """Apply `function` to every row of `columns`, ROUNDS times, and print the best milliseconds an image."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        results = [function(*row) for row in zip(*columns, strict=True)]
        best = min(best, time.perf_counter() - began)
    print(f"  {name:32} {1000 * best / len(results):.3f} ms")
    return results


def library_alone(data: bytes) -> None:
    """Decode, CLAHE, resize and encode, as a plain loop over bytes in memory would."""
    grey = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY)
    small = cv2.resize(cv2.createCLAHE(2.0, (8, 8)).apply(grey), (448, 448), interpolation=cv2.INTER_CUBIC)
    cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])


def main() -> None:
    read.set_up_process()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows", IMAGES, 1)
        shard = next((folder / "rows").glob("train-*.parquet"))
        firsts: dict[bytes, int] = {}
        for row, image in enumerate(pq.read_table(shard, columns=["image"])["image"].to_pylist()):
            if image and image["bytes"]:
                firsts.setdefault(image["bytes"], row)
        datas = [data for data in firsts if data.startswith(b"\xff\xd8") and len(data) > 10_000][: IMAGES // 2]
        owned = {"shard": [shard.stem] * len(datas), "row": sorted(firsts[data] for data in datas)}
        pq.write_table(pq_table(owned, datas), folder / "images.parquet")
        print(f"{len(datas)} images, best of {ROUNDS}")
        each("library calls alone", library_alone, datas)
        pixels = [picture.pixels for picture in each("decode", read.decode, datas)]
        greys = each("grey", read.to_grey, pixels)
        found = each("rectangle", lambda p: overlay.find_box(p) if p.ndim == 3 else None, pixels)
        each("perceptual hash", lambda g, f: likeness(thumbnail(g.copy(), f)), greys, found)
        each("CLAHE by OpenCV", lambda grey: cv2.createCLAHE(2.0, (8, 8)).apply(grey), greys)
        enhanced = each("CLAHE", lambda grey: clahe(grey, 2.0, 8), greys)
        each("letterbox", lambda grey: letterbox(grey, 448), enhanced)
        each("CLAHE, letterbox and encode", lambda p, g, f: render(p, g, f, RECIPE), pixels, greys, found)
        inpaint = RECIPE._replace(burned_in_box="inpaint")
        each("the same with the box taken out", lambda p, g, f: render(p, g, f, inpaint), pixels, greys, found)
        began = time.perf_counter()
        recipes = {str(folder / "ahead"): RECIPE._asdict()}
        scan(shard, folder / "images.parquet", folder / "scan.parquet", recipes=recipes)
        print(f"  {'the whole pass, with its files':32} {1000 * (time.perf_counter() - began) / len(datas):.3f} ms")
        print("starts")
        for command in COMMANDS:
            began = time.perf_counter()
            subprocess.run(
                [Path(sys.executable).with_name("radtune"), command, "--help"], check=True, capture_output=True
            )
            print(f"  radtune {command:24} {time.perf_counter() - began:.2f} s")


def pq_table(owned: dict[str, list[Any]], datas: list[bytes]) -> Any:
    import pyarrow as pa

    return pa.table(owned | {"image_sha256": [f"{i:064x}" for i in range(len(datas))]})


if __name__ == "__main__":
    main()
