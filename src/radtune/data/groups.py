"""Groups of rows that must not be torn apart, the split by group, and the leakage between splits.

Two rows belong together when they share the image's bytes, the id, or the data set's own group (a patient or series),
or when their images are near-duplicates. Groups are dealt out in an order hashed from seed and group, so that a split
depends on the data and the seed alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SPLITS = ("train", "validation", "test")
TOLERANCE = 0.01  # of all rows, by which a split may miss its share
_CHUNK = 16  # bits; two hashes that differ in fewer than twice as many bits as there are chunks have a near one
Codes = npt.NDArray[np.int64]


def near_duplicates(hashes: npt.NDArray[np.uint8], bits: int) -> tuple[Codes, Codes]:
    """All pairs (i, j) of hashes (n x bytes) that differ in at most `bits` bits, by faiss's multi-hash index.

    It looks into buckets instead of at all pairs, and is exact: of k chunks, one differs in at most bits // k bits.
    """
    import faiss

    unique, codes = np.unique(hashes, axis=0, return_inverse=True)
    width = 8 * hashes.shape[1]
    index = faiss.IndexBinaryMultiHash(width, width // _CHUNK, _CHUNK)
    index.nflip = bits // (width // _CHUNK)
    index.add(unique)
    limits, _, found = index.range_search(unique, bits + 1)  # faiss: nearer than the radius
    left = np.repeat(np.arange(len(unique)), (limits[1:] - limits[:-1]).astype(np.int64))
    first = np.full(len(unique), -1)
    first[codes[::-1]] = np.arange(len(hashes))[::-1]  # one image stands for its equals
    equal = np.flatnonzero(first[codes] != np.arange(len(hashes)))
    pairs = left < found
    return (
        np.concatenate([first[left[pairs]], first[codes[equal]]]).astype(np.int64),
        np.concatenate([first[found[pairs]], equal]).astype(np.int64),
    )


def group_rows(
    images: pa.Array, *others: pa.Array, near: tuple[Codes, Codes] | None = None, of: pa.Array | None = None
) -> pa.Array:
    """The group of each row: 16 hex digits, the smallest image in it.

    `images` and `others` (id, the data set's own group) are string columns of one entry a row; null joins nothing.
    `near` are pairs of near-duplicates, as positions in `of`, the images' digests.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(images)
    names = pc.unique(images).take(pc.sort_indices(pc.unique(images)))
    lefts, rights, size = [], [], n
    for column in (images, *others):
        nodes = names if column is images else pc.unique(column)
        codes = pc.index_in(column, nodes, skip_nulls=True).fill_null(-1).to_numpy()
        rows = np.flatnonzero(codes >= 0)
        lefts.append(rows)
        rights.append(size + codes[rows])
        size += len(nodes)
    if near is not None:
        at = pc.index_in(of, names).fill_null(-1).to_numpy()
        pairs = np.stack([at[side] for side in near])
        pairs = pairs[:, (pairs >= 0).all(axis=0)]
        lefts.append(n + pairs[0])
        rights.append(n + pairs[1])
    left, right = np.concatenate(lefts), np.concatenate(rights)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    smallest = np.full(labels.max(initial=0) + 1, len(names))
    np.minimum.at(smallest, labels[n : n + len(names)], np.arange(len(names)))
    return pc.utf8_slice_codeunits(names.take(pa.array(smallest[labels[:n]])), 0, 16)


def split_groups(groups: Sequence[str], fractions: dict[str, float], seed: int) -> list[str]:
    """A split for each row: whole groups, so that each split gets its share of the rows within TOLERANCE, wherever the
    groups' sizes allow it.

    Groups too large to be evened out later go first; each group goes to the split that lacks most of its share, among
    those it fits into.
    """
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    slack = TOLERANCE / 2 * len(groups)
    order = sorted(sizes, key=lambda group: (sizes[group] <= slack, _order(seed, group)))
    wanted = {split: fractions[split] * len(groups) for split in SPLITS if fractions[split] > 0}
    missing = dict(wanted)
    chosen = {}
    for group in order:
        fits = [split for split in missing if missing[split] + slack >= sizes[group]]
        if fits:
            best = max(fits, key=lambda split: missing[split] / wanted[split])
        else:
            best = max(missing, key=lambda split: missing[split])
        missing[best] -= sizes[group]
        chosen[group] = best
    return [chosen[group] for group in groups]


def _order(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def leakage(splits: Sequence[str], images: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """How many images and groups of validation and test stand in train too."""
    result = {}
    for kind, keys in (("images", images), ("groups", groups)):
        parts: dict[str, set[str]] = {split: set() for split in SPLITS}
        for split, key in set(zip(splits, keys, strict=True)):
            parts[split].add(key)
        result[kind] = {split: len(parts[split]) for split in SPLITS} | {
            f"{split}_in_train": len(parts[split] & parts["train"]) for split in ("validation", "test")
        }
    return result
