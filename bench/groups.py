"""Seconds to find near-duplicates among 30,000 images, to group and to split their 180,000 rows, on one core.

python bench/groups.py [--images 30000]

Hashes are those of scans: slices of 200 drawn patients, moved a little from one to the next, every third one twice with
some noise. So they are alike where air and skull lie, as real ones are, which buckets of a hash do not like.
"""

import argparse
import resource
import time

import cv2
import numpy as np
import pyarrow as pa

from radtune.data.groups import group_rows, near_duplicates, split_groups
from radtune.data.phantom_draw import draw, draw_patient
from radtune.images.scan import likeness, thumbnail

PATIENTS, ROWS, SIDE = 200, 6, 128


def draw_hashes(images: int) -> np.ndarray:
    """images x 256 bits, as bytes."""
    hashes = []
    for patient in range(PATIENTS):
        rng = np.random.default_rng([patient])
        anatomy, slices = draw_patient(rng), images // PATIENTS
        drawn = [draw(anatomy, at, rng).pixels for at in (0.2, 0.5, 0.8)]
        small = [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in drawn]
        for i in range(slices):
            at = (i - i % 3 // 2) / slices  # every third is the one before again
            turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 8 * np.sin(9 * at), 1 - 0.25 * abs(at - 0.5))
            picture = cv2.warpAffine(small[int(3 * at)], turn, (SIDE, SIDE))
            noise = rng.normal(0, 2, picture.shape) * (picture > 0)
            grey = np.clip(picture + noise, 0, 255).astype(np.uint8)
            hashes.append(np.frombuffer(likeness(thumbnail(grey, None)), np.uint8))
    return np.array(hashes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=30000)
    images = parser.parse_args().images
    hashes = np.unique(draw_hashes(images), axis=0)
    began = time.perf_counter()
    near = near_duplicates(hashes, 31)
    found = time.perf_counter()
    rows = np.repeat(np.arange(len(hashes)), ROWS)
    names = pa.array([f"{i:016x}" for i in rows])
    groups = group_rows(names, names, names, near=near, largest=0.02).to_pylist()
    split_groups(groups, {"train": 0.9, "validation": 0.05, "test": 0.05}, 0)
    done = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(hashes)} images, {len(near.left)} near pairs in {found - began:.1f} s; {len(set(groups))} groups of "
        f"{len(rows)} rows in {done - found:.1f} s; {memory:.0f} MiB"
    )


if __name__ == "__main__":
    main()
