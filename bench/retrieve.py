"""An index of a million training cases: recall@5 against every pair, milliseconds a query, build time, memory.

python bench/retrieve.py [--vectors 1000000] [--dimension 1152] [--queries 250]

1152 numbers a vector, as many encoders give; Qwen3-VL-8B's tower gives 4096. Drawn as scans: patients are clusters,
slices of one lie close together on a path, in 1024 directions of falling variance (the i-th has i^-0.5 of the first's
deviation) with noise in every direction, around a common mean that holds most of a vector's length. Queries are slices
of patients of their own. The shards are files as `radtune embed-images` writes them, 4.6 GB in a temporary folder,
where the index takes 2.5 more.
"""

import argparse
import json
import re
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from radtune.predict import retrieve

DIRECTIONS, SLICES, SHARD, K = 1024, 100, 10_000, 5


def drawn(seed: int, count: int, dimension: int) -> np.ndarray:
    """(count, dimension) unit vectors, SLICES a patient.

    The directions are the first axes: no distance, product or principal component knows how they lie.
    """
    rng = np.random.default_rng([1, seed])
    falling = (np.arange(min(DIRECTIONS, dimension), dtype=np.float32) + 1) ** -0.5
    patients = -(-count // SLICES)
    ends = [rng.standard_normal((patients, 1, len(falling)), np.float32) for _ in range(2)]
    along = np.linspace(0, 1, SLICES, dtype=np.float32)[None, :, None]
    inner = ends[0] + 0.5 * along * ends[1] + 0.2 * rng.standard_normal((patients, SLICES, len(falling)), np.float32)
    found = rng.standard_normal((count, dimension), np.float32) * (0.3 / dimension**0.5) + 8 / dimension**0.5
    found[:, : len(falling)] += inner.reshape(-1, len(falling))[:count] * falling
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ask(index: Path, queries: np.ndarray) -> dict[str, float]:
    """Ask as a process that does nothing else; its peak in MiB, and what it holds in the end: RssFile are pages of
    files, vectors.npy's above all, which the system takes back where memory is short.
    """
    for start in range(0, len(queries), 100):
        retrieve.nearest(index, queries[start : start + 100], K, [None] * len(queries[start : start + 100]))
    held = re.findall(r"^(VmHWM|RssAnon|RssFile):\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return {name: int(kib) / 1024 for name, kib in held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=1152)
    parser.add_argument("--queries", type=int, default=250)
    asked = parser.parse_args()
    queries = drawn(10**6, asked.queries, asked.dimension)
    exact = np.full((asked.queries, K), -2, np.float32)
    best = np.zeros((asked.queries, K), np.int64)
    looked = 0.0
    with tempfile.TemporaryDirectory() as folder:
        samples, out, paths = Path(folder, "samples.parquet"), Path(folder, "index"), []
        for first in range(0, asked.vectors, SHARD):
            matrix = drawn(first, SHARD, asked.dimension)
            began = time.perf_counter()
            alike = np.concatenate([exact, queries @ matrix.T], 1)
            rows = np.concatenate([best, np.tile(np.arange(SHARD) + first, (asked.queries, 1))], 1)
            order = np.argsort(-alike, 1)[:, :K]
            exact, best = np.take_along_axis(alike, order, 1), np.take_along_axis(rows, order, 1)
            looked += time.perf_counter() - began
            paths.append(Path(folder, f"{first:09}.parquet"))
            images = [f"enhanced/{first:09}/{n:064x}.jpg" for n in range(first, first + SHARD)]
            values = pa.FixedSizeListArray.from_arrays(matrix.ravel(), asked.dimension).cast(pa.list_(pa.float32()))
            pq.write_table(pa.table({"image": images, "vector": values}), paths[-1])
        print(json.dumps({"exact_ms_a_query": 1000 * looked / asked.queries}), flush=True)
        shas = [f"{n:064x}" for n in range(asked.vectors)]
        same = {"status": pa.array(["kept"] * len(shas)), "split": pa.array(["train"] * len(shas))}
        # groups of one, of which none is left out, so that recall is that of the index
        pq.write_table(pa.table({"image_sha256": shas, "group": shas} | same), samples)
        began = time.perf_counter()
        retrieve.build_index(paths, samples, out, encoder="drawn")
        built = time.perf_counter() - began
        sizes = {path.name: path.stat().st_size / 2**20 for path in out.iterdir()}
        print(json.dumps({"build_s": built, "MiB": sizes, "peak_GiB": peak()}), flush=True)
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:  # forked, it would start with all that is here
            print(json.dumps({"query_process_MiB": alone.submit(ask, out, queries).result()}), flush=True)
        retrieve.nearest(out, queries[:1], K, [None])  # opens it
        for probes in (64, 128, 256, 512):
            with patch.object(retrieve, "PROBES", probes):
                began = time.perf_counter()
                together = retrieve.nearest(out, queries, K, [None] * len(queries))
                batched = 1000 * (time.perf_counter() - began) / len(queries)
                began = time.perf_counter()
                for query in queries[:100]:
                    retrieve.nearest(out, query[None], K, [None])
                single = 10 * (time.perf_counter() - began)
            hits = [
                len({int(Path(case.image).stem, 16) for case in cases} & set(row.tolist()))
                for cases, row in zip(together, best, strict=True)
            ]
            recall = sum(hits) / (K * len(hits))
            found = {"probes": probes, "recall@5": recall, "single_ms": single, "batched_ms": batched}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
