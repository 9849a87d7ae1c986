"""Groups of rows that must not be torn apart, the split by group, and the leakage between splits.

Two rows belong together when they share the image's bytes or the id. Groups are ordered by a hash of seed and group and
cut at the fractions, so that a split depends on the data and the seed alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "validation", "test")


def group_rows(*keys: Sequence[str]) -> list[str]:
    """The group of each row, named by its smallest first key; `keys` are columns of equal length, one entry a row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(keys[0])
    nodes: dict[tuple[int, str], int] = {}
    values = [nodes.setdefault((column, key), n + len(nodes)) for column, part in enumerate(keys) for key in part]
    rows = np.tile(np.arange(n), len(keys))
    size = n + len(nodes)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, np.array(values, np.int64))), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][:n]
    names: dict[int, str] = {}
    for label, key in zip(labels, keys[0], strict=True):
        names[label] = min(key, names.get(label, key))
    return [names[label][:16] for label in labels]


def split_groups(groups: Sequence[str], fractions: dict[str, float], seed: int) -> list[str]:
    """A split for each row: whole groups, in hashed order, cut where the rows reach the fractions (which sum to 1)."""
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    bounds = np.cumsum([fractions[split] for split in SPLITS]) * len(groups)
    chosen, done = {}, 0
    for group in order:
        middle = done + sizes[group] / 2
        chosen[group] = SPLITS[min(int(np.searchsorted(bounds, middle)), len(SPLITS) - 1)]
        done += sizes[group]
    return [chosen[group] for group in groups]


def leakage(splits: Sequence[str], images: Sequence[str], groups: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many images and groups of validation and test stand in train too."""
    result = {}
    for kind, keys in (("images", images), ("groups", groups)):
        parts = {split: {key for key, s in zip(keys, splits, strict=True) if s == split} for split in SPLITS}
        result[kind] = {split: len(parts[split]) for split in SPLITS} | {
            f"{split}_in_train": len(parts[split] & parts["train"]) for split in ("validation", "test")
        }
    return result
