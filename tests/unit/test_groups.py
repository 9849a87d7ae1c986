"""Groups hold together what must not be torn apart, and splits meet their fractions."""

import time
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radtune.data import groups as grouping
from radtune.data.groups import SURE, Near, group_rows, leakage, near_duplicates, near_leakage, split_groups

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


def groups_of(*keys: list[str | None], near: list[tuple[int, int, int]] | None = None, largest: float = 1) -> list[str]:
    pairs = Near(*np.array(near or [], np.int64).reshape(-1, 3).T)
    columns = [pa.array(column, pa.string()) for column in keys]
    found: list[str] = group_rows(*columns, near=pairs, largest=largest).to_pylist()
    return found


def test_rows_that_share_an_image_or_an_id_are_one_group() -> None:
    #        one image       a second image under the id of the first    alone
    assert groups_of(["a", "a", "b", "c"], ["1", "2", "2", "3"]) == ["a", "a", "a", "c"]


def test_of_images_alone_each_is_a_group() -> None:
    assert group_rows(pa.array(["b", "a", "b"])).to_pylist() == ["b", "a", "b"]


def test_a_patient_and_near_duplicates_join_too() -> None:
    images, ids = ["a", "b", "c", "d", "e"], ["1", "2", "3", "4", "5"]
    near = [(1, 2, 20), (3, 4, 30)]  # among the unique values of the last column
    assert groups_of(images, ids, ["p", None, "p", None, None], images, near=near) == list("aaadd")


def test_near_duplicates_join_nearest_first_up_to_a_size() -> None:
    images = ["a", "b", "c", "d"]
    near = [(1, 2, 20), (0, 1, 22), (2, 3, 24)]  # a chain
    assert groups_of(images, near=near) == list("aaaa")
    assert groups_of(images, near=near, largest=0.5) == list("abbd")
    assert groups_of(images, near=[(0, 1, 0), (1, 2, SURE), (2, 3, SURE)], largest=0) == list("aaaa")


def test_the_same_word_as_image_and_id_joins_nothing() -> None:
    assert len(set(groups_of(["x", "y"], ["y", "x"]))) == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), min_size=1, max_size=200), st.integers(0, 5))
def test_no_group_is_torn_apart(rows: list[tuple[int, int]], seed: int) -> None:
    images, ids = [str(i) for i, _ in rows], [f"id{i}" for _, i in rows]
    groups = groups_of(images, list(ids))
    splits = split_groups(groups, FRACTIONS, seed)
    for keys in (groups, images, ids):
        assert all(len({s for k, s in zip(keys, splits, strict=True) if k == key}) == 1 for key in set(keys))
    after = leakage(splits, images, groups)
    assert after["images"]["test_in_train"] == after["groups"]["validation_in_train"] == 0


@pytest.mark.parametrize("index", ["flat", "multi-hash"])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), bits=st.integers(0, 40))
def test_near_duplicates_are_all_pairs_within_the_distance(index: str, seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (40, 32)).astype(np.uint8)
    for i in range(1, 30):  # most are another one with some bits turned
        hashes[i] = hashes[rng.integers(i)]
        for bit in rng.integers(0, 256, rng.integers(1, 30)):
            hashes[i, bit // 8] ^= 1 << (bit % 8)
    hashes = np.unique(hashes, axis=0)
    spread = np.unpackbits(hashes, axis=1).astype(int)
    distance = (spread[:, None] != spread[None]).sum(axis=2)
    expected = {(i, j, distance[i, j]) for i, j in np.argwhere(distance <= bits) if i < j}
    with patch.multiple(grouping, _FEW=0 if index == "multi-hash" else 100, _SLOWER=0):
        found = near_duplicates(hashes, bits)
    assert set(zip(*found, strict=True)) == expected
    assert (np.diff(found.distance) >= 0).all()


def test_hashes_of_like_pictures_take_no_longer_than_others() -> None:
    """Heads in air, which is alike in all: rows of the hash as buckets would hold nearly every pair."""
    rng = np.random.default_rng(0)
    heads = np.zeros((20_000, 16, 16), bool)
    patients = rng.random((200, 8, 8)) < 0.5
    heads[:, 4:12, 4:12] = patients[rng.integers(0, 200, 20_000)] ^ (rng.random((20_000, 8, 8)) < 0.1)
    hashes = np.unique(np.packbits(heads.reshape(-1, 256), axis=1), axis=0)
    began = time.process_time()
    assert len(near_duplicates(hashes, 10).left) > 10_000
    assert time.process_time() - began < 10  # of a core: buckets took more than a minute


def test_no_hashes_have_no_near_duplicates() -> None:
    assert near_duplicates(np.zeros((0, 32), np.uint8), 31).left.size == 0


def test_like_images_of_other_splits_are_counted() -> None:
    near = Near(*np.array([(0, 1, 5), (2, 3, 5)]).T)
    splits, hashes = ["train", "test", "test", "validation", "test"], pa.array(["a", "b", "c", "d", "a"])
    assert near_leakage(splits, hashes, near) == {
        "train": 1,
        "validation": 1,
        "test": 3,
        "validation_in_train": 0,
        "test_in_train": 2,
    }


@given(st.lists(st.integers(1, 40), min_size=200, max_size=300), st.integers(0, 3))
def test_fractions_are_met_within_a_percent(sizes: list[int], seed: int) -> None:
    groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
    splits = split_groups(groups, FRACTIONS, seed)
    for split, fraction in FRACTIONS.items():
        assert abs(splits.count(split) / len(groups) - fraction) < 0.01
    assert splits == split_groups(groups, FRACTIONS, seed)
    assert splits != split_groups(groups, FRACTIONS, seed + 1)


def test_a_giant_group_goes_where_there_is_room() -> None:
    groups = ["giant"] * 700 + [f"g{i}" for i in range(300)]
    splits = split_groups(groups, FRACTIONS, 0)
    assert splits[0] == "train"
    assert [splits.count(split) for split in FRACTIONS] == [800, 100, 100]


def test_an_empty_fraction_gets_nothing() -> None:
    assert set(split_groups([f"g{i}" for i in range(50)], {"train": 0.5, "validation": 0, "test": 0.5}, 0)) == {
        "train",
        "test",
    }


def test_leakage_counts_what_stands_in_train_too() -> None:
    found = leakage(["train", "test", "test", "validation"], ["a", "a", "b", "c"], ["g", "g", "g", "h"])
    assert found["images"] == {"train": 1, "validation": 1, "test": 2, "validation_in_train": 0, "test_in_train": 1}
    assert found["groups"] == {"train": 1, "validation": 1, "test": 1, "validation_in_train": 0, "test_in_train": 1}
