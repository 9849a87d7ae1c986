"""The training cases nearest to a picture: an index over vectors of train alone, and what it finds in other groups.

    radtune build-index --vectors vectors/*.parquet --samples samples.parquet --encoder NAME --out index/
    radtune find-cases --index index/ --vectors vectors/*.parquet --samples samples.parquet --split test --out OUT

Vectors are those of embed_images(): of length 1, so that an inner product is a cosine. An index is a folder:
index.faiss; cases.parquet, row i of which is vector i (image, group, digest); index.json (encoder, dimension, kind,
fitted, count). Of up to EXACT vectors, each is looked at. Above, cells of a small copy of the vectors name candidates,
whose order then comes from the vectors themselves: vectors.npy, in half precision, which no reader holds in memory.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from radtune.files import UserError, read_json, replacing, write_json

KEPT = 16  # cases of an image: more than are asked for, since not each has an answer to each task
EXACT = 50_000  # vectors up to which every pair is looked at; above, figures of bench/retrieve.py
COMPONENTS, PROBES, CANDIDATES = 256, 256, 64  # above: principal components kept, cells searched, candidates at least
FITTED_ON = 40  # vectors a cell that it is fitted on, of which faiss wants 39 or more
_AT_ONCE = 1024  # queries

Floats = NDArray[np.float32]


class Case(NamedTuple):
    """A training image, its group, and its cosine to the picture."""

    image: str
    group: str
    similarity: float


class _Opened(NamedTuple):
    index: Any
    about: dict[str, Any]
    vectors: NDArray[np.float16] | None  # of an index with cells
    images: list[str]
    groups: list[str]
    digests: list[bytes]


def nearest(index: Path, vectors: Floats, k: int, without: Sequence[str | None]) -> list[list[Case]]:
    """Of each of `vectors` (n, d) the k nearest cases, best first, at most one a group and none of the group that
    `without` (n) names; fewer where the index holds fewer groups. Of equal ones first the one whose name sorts first.

    More are fetched until there are k. Raises UserError where the folder is damaged or its vectors have another length.
    """
    opened = _opened(index)
    count, dimension = len(opened.images), opened.about["dimension"]
    if count and vectors.shape[1] != dimension:
        raise UserError(f"{index} holds vectors of {dimension} numbers, not {vectors.shape[1]}; take its own encoder.")
    found: list[list[Case]] = [[] for _ in vectors]
    waiting = list(range(len(vectors))) if count else []
    fetched = first = min(max(8 * k, CANDIDATES), count)
    while waiting:
        left = []
        for i, alike, rows in zip(waiting, *_search(opened, vectors[waiting], fetched, fetched // first), strict=True):
            found[i], more = _others(opened, alike, rows, k, without[i])
            left += [i] if more and fetched < count else []
        waiting, fetched = left, min(4 * fetched, count)
    return found


def _search(opened: _Opened, vectors: Floats, fetched: int, wider: int) -> tuple[Floats, NDArray[np.int64]]:
    """Cosine and row (n, fetched) of the vectors nearest to each, best first; -1 for rows that were not found.

    Where the index has cells, `wider` times PROBES of them are searched; all, where every vector is asked for.
    """
    import faiss

    if opened.vectors is None:
        similarity, rows = opened.index.search(vectors, fetched)
        return similarity, rows
    every = faiss.extract_index_ivf(opened.index).nlist
    cells = faiss.SearchParametersIVF()
    cells.nprobe = every if fetched == len(opened.images) else min(wider * PROBES, every)
    params = faiss.SearchParametersPreTransform()
    params.index_params = cells
    _, rows = opened.index.search(vectors, fetched, params=params)
    similarity = np.full(rows.shape, -2, np.float32)
    for n, vector in enumerate(vectors):
        candidates = np.sort(rows[n][rows[n] >= 0])  # in the file's order
        products = opened.vectors[candidates].astype(np.float32) @ vector
        order = np.argsort(-products)
        rows[n] = -1
        rows[n, : len(order)], similarity[n, : len(order)] = candidates[order], products[order]
    return similarity, rows


def _others(
    opened: _Opened, similarity: Floats, rows: NDArray[np.int64], k: int, without: str | None
) -> tuple[list[Case], bool]:
    """The best case of each of the k best groups but `without`; whether one that was not fetched could belong there."""
    cases = [
        Case(opened.images[row], opened.groups[row], round(float(alike), 5))
        for row, alike in zip(rows, similarity, strict=True)
        if row >= 0
    ]
    best: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: (-case.similarity, case.image)):
        if case.group != without:
            best.setdefault(case.group, case)
    chosen = list(best.values())[:k]
    return chosen, len(chosen) < k or cases[-1].similarity >= chosen[-1].similarity


def build_index(vectors: list[Path], samples: Path, out: Path, *, encoder: str) -> None:
    """Write the folder `out`, of the images that are in train according to `samples`.

    What the last one left beside it, .{out}.earlier, is extended where all that it holds is still in train and has the
    same vector; else the index is made anew.
    """
    import faiss

    group_of = _groups(samples, "train")
    digests: dict[str, bytes] = {}
    dimension = 0
    for images, matrix in _shards(vectors, group_of):
        digests |= {image: _digest(vector) for image, vector in zip(images, matrix, strict=True)}
        dimension = matrix.shape[1]
    kind = "exact" if len(digests) <= EXACT else "cells"
    about = {"encoder": encoder, "dimension": dimension, "kind": kind}
    beside = out.with_name(f".{out.name}.earlier")
    earlier = _reusable(beside, about, digests)
    index = earlier.index if earlier else _fitted(vectors, group_of, len(digests), about)
    names = list(earlier.images) if earlier else []
    about["fitted"] = earlier.about["fitted"] if earlier else len(digests)
    with replacing(out) as folder:
        folder.mkdir()
        kept = _half(folder, earlier, len(digests), dimension) if kind == "cells" else None
        known = set(names)
        for images, matrix in _shards(vectors, group_of):
            new = [n for n, image in enumerate(images) if image not in known]
            index.add(matrix[new])
            if kept is not None:
                kept[len(names) : len(names) + len(new)] = matrix[new]
            names += [images[n] for n in new]
        faiss.write_index(index, str(folder / "index.faiss"))
        _write_cases(folder, [(name, group_of[_sha256(name)], digests[name]) for name in names])
        write_json(folder / "index.json", about | {"count": len(names)})
    with replacing(beside) as temporary:  # links: an index can take gigabytes, and no file of one is ever changed
        shutil.copytree(out, temporary, copy_function=_link)


def find_cases(index: Path, vectors: list[Path], samples: Path, out: Path, *, split: str) -> None:
    """Write a row for each image of a split (image, group) with its KEPT nearest cases in other groups, nearest first
    (cases, groups, similarity).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    group_of = _groups(samples, split)
    types = {"image": pa.string(), "group": pa.string()} | dict.fromkeys(("cases", "groups"), pa.list_(pa.string()))
    schema = pa.schema(list((types | {"similarity": pa.list_(pa.float64())}).items()))
    with replacing(out) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for images, matrix in _shards(vectors, group_of):
            for start in range(0, len(images), _AT_ONCE):
                some = images[start : start + _AT_ONCE]
                groups = [group_of[_sha256(image)] for image in some]
                found = nearest(index, matrix[start : start + _AT_ONCE], KEPT, groups)
                for group, cases in zip(groups, found, strict=True):
                    assert group not in {case.group for case in cases}, "a case of the picture's own group"
                columns = [[[case[n] for case in cases] for cases in found] for n in range(3)]
                writer.write_table(pa.table([some, groups, *columns], schema=schema))


def _groups(samples: Path, split: str) -> dict[str, str]:
    """{image_sha256: group} of the images with a kept row in the split."""
    import pyarrow.parquet as pq

    kept = [("status", "=", "kept"), ("split", "=", split)]
    table = pq.read_table(samples, columns=["image_sha256", "group"], filters=kept)
    return dict(zip(table["image_sha256"].to_pylist(), table["group"].to_pylist(), strict=True))


def _shards(paths: Sequence[Path], wanted: dict[str, str]) -> Iterator[tuple[list[str], Floats]]:
    """The images of each shard that are wanted, and their vectors (images, d); shards without any are left out."""
    import pyarrow.parquet as pq

    for path in sorted(paths):
        table = pq.read_table(path, columns=["image", "vector"])
        images = table["image"].to_pylist()
        kept = [n for n, image in enumerate(images) if _sha256(image) in wanted]
        if kept:
            numbers = table["vector"].combine_chunks().flatten().to_numpy()
            yield [images[n] for n in kept], numbers.reshape(len(images), -1)[kept]


def _sha256(image: str) -> str:
    return Path(image).stem  # enhanced images are named so


def _digest(vector: Floats) -> bytes:
    return hashlib.blake2b(vector.tobytes(), digest_size=16).digest()


def _fitted(vectors: list[Path], group_of: dict[str, str], count: int, about: dict[str, Any]) -> Any:
    """An empty index; where it has cells, fitted on vectors spread evenly over all."""
    import faiss

    dimension = about["dimension"]
    if about["kind"] == "exact":
        return faiss.IndexFlatIP(dimension)
    cells = 4 * math.isqrt(count)
    step = max(1, count // (FITTED_ON * cells))
    parts, seen = [], 0
    for _, matrix in _shards(vectors, group_of):
        parts.append(matrix[-seen % step :: step])
        seen += len(matrix)
    # distances, not products: principal components are of centred vectors, which changes products and no distance
    index = faiss.index_factory(dimension, f"PCA{min(COMPONENTS, dimension)},IVF{cells},SQ8", faiss.METRIC_L2)
    index.train(np.concatenate(parts))
    return index


def _reusable(folder: Path, about: dict[str, Any], digests: dict[str, bytes]) -> _Opened | None:
    """The earlier index, if it is of this kind and all that it holds is still there as it was."""
    if not folder.is_dir():
        return None
    try:
        earlier = _opened(folder)
    except UserError:
        return None
    same = all(earlier.about[key] == value for key, value in about.items())
    grown = about["kind"] != "exact" and len(digests) > 2 * earlier.about["fitted"]  # its cells fit no longer
    there = all(digests.get(image) == digest for image, digest in zip(earlier.images, earlier.digests, strict=True))
    return earlier if same and there and not grown else None


def _half(folder: Path, earlier: _Opened | None, count: int, dimension: int) -> NDArray[np.float16]:
    """A file for all vectors (count, dimension) in the folder, with the earlier index's."""
    found = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.dtype(np.float16), (count, dimension))
    if earlier and earlier.vectors is not None:
        found[: len(earlier.vectors)] = earlier.vectors
    return found


def _write_cases(folder: Path, cases: list[tuple[str, str, bytes]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [list(column) for column in zip(*cases, strict=True)] or [[], [], []]
    schema = pa.schema([("image", pa.string()), ("group", pa.string()), ("digest", pa.binary())])
    pq.write_table(pa.table(columns, schema=schema), folder / "cases.parquet")


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
    return target


def _opened(folder: Path) -> _Opened:
    try:
        return _read(folder, (folder / "index.json").stat().st_mtime_ns)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"{folder}: no index of cases can be read ({why}); delete it and make it again.") from None


@lru_cache(maxsize=4)
def _read(folder: Path, changed: int) -> _Opened:
    import faiss
    import pyarrow.parquet as pq

    about = read_json(folder / "index.json")
    index = faiss.read_index(str(folder / "index.faiss"))
    images, groups, digests = (column.to_pylist() for column in pq.read_table(folder / "cases.parquet").columns)
    if not index.ntotal == len(images) == about["count"]:
        raise ValueError(f"{index.ntotal} vectors of {len(images)} cases, {about['count']} expected")
    vectors = np.load(folder / "vectors.npy", mmap_mode="r") if about["kind"] == "cells" else None
    return _Opened(index, about, vectors, images, groups, digests)
