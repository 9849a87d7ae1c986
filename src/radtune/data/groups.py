"""Groups of rows that must not be torn apart, the split by group, and the leakage between splits.

Two rows belong together when they share the image's bytes, the id, or the data set's own group (a patient or series).
Near-duplicate images join as well, nearest first, as long as the group does not become too large: links from slice to
slice, from patient to patient, would else join everything. Groups are dealt out in an order hashed from seed and group,
so that a split depends on the data and the seed alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radtune.shards import SPLITS

TOLERANCE = 0.01  # of all rows, by which a split may miss its share
SURE = 10  # bits of 256: one slice with two rectangles has 7 at most, measured; such images join whatever the size
_CHUNK = 16  # bits; two hashes that differ in fewer than twice as many bits as there are chunks have a near one
# What the multi-hash index takes, in pairs of the flat one, measured: its buckets' look-up, and a pair that lies there
_FEW, _SLOWER = 40_000, 10
_PARTS = 8
Codes = npt.NDArray[np.int64]


class Near(NamedTuple):
    """Pairs of like hashes: positions `left` and `right` among the hashes, and their distance in bits."""

    left: Codes
    right: Codes
    distance: Codes


def near_duplicates(hashes: npt.NDArray[np.uint8], bits: int) -> Near:
    """All pairs of hashes (n x bytes, no two the same) that differ in at most `bits` bits, exactly, by faiss's indexes.

    Its multi-hash index looks into buckets instead of at all pairs: of k chunks, one differs in at most bits // k bits.
    Bits are dealt out to the chunks by how evenly they are set, since neighbouring ones agree: one row of a hash is
    all air. Where buckets are full all the same, or hashes few, its flat one is faster: 30,000 take it seconds.
    """
    import faiss

    n, width = len(hashes), 8 * hashes.shape[1]
    chunks = width // _CHUNK
    spread = np.unpackbits(hashes, axis=1)
    evenly = np.argsort(np.abs(spread.mean(axis=0) - 0.5), kind="stable") if n else np.arange(width)
    dealt = spread[:, evenly.reshape(_CHUNK, chunks).T.ravel()]  # no distance changes
    hashes = np.ascontiguousarray(np.packbits(dealt, axis=1))
    index: faiss.IndexBinary = faiss.IndexBinaryFlat(width)
    if n > _FEW and _FEW * n + _SLOWER * _looked_at(hashes) < n * n:
        index = faiss.IndexBinaryMultiHash(width, chunks, _CHUNK)
        index.nflip = bits // chunks
    lefts, rights, distances = [], [], []
    for start in range(0, n, step := max(1, -(-n // _PARTS))):  # each against those before: half of the work
        part = hashes[start : start + step]
        index.add(part)
        limits, distance, left = index.range_search(part, bits + 1)  # faiss: nearer than the radius
        right = start + np.repeat(np.arange(len(part)), (limits[1:] - limits[:-1]).astype(np.int64))
        pairs = left < right
        lefts.append(left[pairs])
        rights.append(right[pairs])
        distances.append(distance[pairs])
    found = Near(*(np.concatenate(values or [[]]).astype(np.int64) for values in (lefts, rights, distances)))
    order = np.lexsort((found.right, found.left, found.distance))  # faiss gives no order
    return Near(*(values[order] for values in found))


def _looked_at(hashes: npt.NDArray[np.uint8]) -> float:
    """How many pairs of hashes share a bucket, or lie in two that are one bit apart."""
    pairs = 0.0
    for keys in hashes.view(np.uint16).T:
        size = np.bincount(keys, minlength=2**_CHUNK).astype(float)
        near = size + sum(size[np.arange(2**_CHUNK) ^ (1 << bit)] for bit in range(_CHUNK))
        pairs += float(size @ near)
    return pairs


def group_rows(*keys: pa.Array, near: Near | None = None, largest: float = 1) -> pa.Array:
    """The group of each row: 16 characters, of the smallest first key in it.

    `keys` are columns of one entry a row: image, id, the data set's own group, hash; null joins nothing, and the first
    has none. `near` are pairs among the unique values of the last column, in order of appearance; beyond SURE bits they
    join no group to more than the share `largest` of the rows.
    """
    uniques = [pc.unique(column.drop_null()) for column in keys]
    codes = [
        pc.index_in(column, unique, skip_nulls=True).fill_null(-1).to_numpy().astype(np.int64)
        for column, unique in zip(keys, uniques, strict=True)
    ]
    starts = np.cumsum([0, *map(len, uniques)])
    size, last = int(starts[-1]), starts[-2]
    pairs = [np.empty((2, 0), np.int64)]
    for column, start in zip(codes[1:], starts[1:-1], strict=True):
        tied = column >= 0
        pairs.append(np.stack(np.divmod(np.unique(codes[0][tied] * size + start + column[tied]), size)))
    if near is not None:
        sure = near.distance <= SURE
        pairs.append(last + np.stack([near.left[sure], near.right[sure]]))
    labels = _join(np.ones(size, int), np.concatenate(pairs, axis=1).T.tolist(), size)
    if near is not None:
        likely = np.sort([labels[last + side[~sure]] for side in (near.left, near.right)], axis=0)
        _, nearest = np.unique(likely[0] * size + likely[1], return_index=True)  # of two groups, their nearest pair
        sizes = np.bincount(labels[codes[0]], minlength=size)
        labels = _join(sizes, likely[:, np.sort(nearest)].T.tolist(), largest * len(codes[0]))[labels]
    names = uniques[0]
    order = pc.sort_indices(names)
    rank = np.empty(len(names), np.int64)
    rank[order.to_numpy()] = np.arange(len(names))
    smallest = np.full(size, len(names))
    np.minimum.at(smallest, labels[: len(names)], rank)
    return pc.utf8_slice_codeunits(names.take(order).take(pa.array(smallest[labels[codes[0]]])), 0, 16)


def _join(sizes: Codes, pairs: Iterable[Sequence[int]], most: float) -> Codes:
    """Single linkage in the order of `pairs`, by union-find: of each of the groups whose `sizes` are given the one that
    it ends in, where none outgrows `most`.
    """
    rows, parent = sizes.tolist(), list(range(len(sizes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for left, right in pairs:
        a, b = root(left), root(right)
        if a != b and rows[a] + rows[b] <= most:
            parent[b] = a
            rows[a] += rows[b]
    return np.array([root(i) for i in range(len(parent))], np.int64)


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


def near_leakage(splits: Sequence[str], hashes: pa.Array, near: Near) -> dict[str, int]:
    """How many different pictures (hashes) each split has, and how many of validation and test have one like them, or
    the very same, in train.
    """
    unique = pc.unique(hashes)
    codes = pc.index_in(hashes, unique).to_numpy()
    inside = {split: np.zeros(len(unique), bool) for split in SPLITS}
    for split in SPLITS:
        inside[split][codes[np.array([name == split for name in splits], bool)]] = True
    seen = inside["train"].copy()
    for a, b in ((near.left, near.right), (near.right, near.left)):
        seen[a[inside["train"][b]]] = True
    return {split: int(inside[split].sum()) for split in SPLITS} | {
        f"{split}_in_train": int((inside[split] & seen).sum()) for split in ("validation", "test")
    }
