"""Seconds to find near-duplicates among 30,000 images, to group and to split their 180,000 rows, on one core.

python bench/groups.py [--images 30000]

Hashes are drawn as scans: a patient's first slice at random, each next one some bits away, and some slices twice.
"""

import argparse
import resource
import time

import numpy as np
import pyarrow as pa

from radtune.data.groups import group_rows, near_duplicates, split_groups

PATIENTS, ROWS = 200, 6


def draw_hashes(images: int) -> np.ndarray:
    """images x 256 bits, as bytes: of each slice's neighbour about 30 bits differ, of every third's copy about 3."""
    rng = np.random.default_rng(0)
    bits = np.empty((images, 256), bool)
    for i in range(images):
        if i % (images // PATIENTS) == 0:
            bits[i] = rng.random(256) < 0.5
        else:
            bits[i] = bits[i - 1] ^ (rng.random(256) < (3 if i % 3 == 0 else 30) / 256)
    return np.packbits(bits, axis=1)


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
