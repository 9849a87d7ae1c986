"""Milliseconds an image of the enhance stage, against the library calls alone, on one core in one run.

python bench/enhance.py
"""

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from radtune.data.phantom import write_practice
from radtune.images.enhance import enhance

IMAGES, ROUNDS = 200, 3


def library_alone(datas: list[bytes]) -> None:
    """Decode, CLAHE, resize and encode, as a plain loop over bytes in memory would."""
    clahe = cv2.createCLAHE(2.0, (8, 8))
    for data in datas:
        grey = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY)
        small = cv2.resize(clahe.apply(grey), (448, 448), interpolation=cv2.INTER_CUBIC)
        cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])


def main() -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        practice = Path(folder) / "practice"
        write_practice(practice, IMAGES, 0)
        shard, images = practice / "practice.parquet", practice / "images.parquet"
        datas = [row["bytes"] for row in pq.read_table(shard)["image"].to_pylist()]
        times: dict[str, list[float]] = {"stage": [], "library": []}
        for n in range(ROUNDS):
            began = time.perf_counter()
            enhance(shard, images, Path(folder) / str(n), Path(folder) / f"{n}.parquet", size=448, clip_limit=2.0)
            between = time.perf_counter()
            library_alone(datas)
            times["stage"].append(between - began)
            times["library"].append(time.perf_counter() - between)
    stage, library = (1000 * min(times[key]) / IMAGES for key in ("stage", "library"))
    print(f"enhance stage {stage:.2f} ms an image, library alone {library:.2f} ms, ratio {stage / library:.2f}")


if __name__ == "__main__":
    main()
