"""Groups hold together what must not be torn apart, and splits meet their fractions."""

from hypothesis import given
from hypothesis import strategies as st

from radtune.data.groups import group_rows, leakage, split_groups

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


def test_rows_that_share_an_image_or_an_id_are_one_group() -> None:
    #        one image       a second image under the id of the first    alone
    groups = group_rows(["a", "a", "b", "c"], ["1", "2", "2", "3"])
    assert groups == ["a", "a", "a", "c"]


def test_the_same_word_as_image_and_id_joins_nothing() -> None:
    assert len(set(group_rows(["x", "y"], ["y", "x"]))) == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), min_size=1, max_size=200), st.integers(0, 5))
def test_no_group_is_torn_apart(rows: list[tuple[int, int]], seed: int) -> None:
    images, ids = [str(i) for i, _ in rows], [f"id{i}" for _, i in rows]
    groups = group_rows(images, ids)
    splits = split_groups(groups, FRACTIONS, seed)
    for keys in (groups, images, ids):
        assert all(len({s for k, s in zip(keys, splits, strict=True) if k == key}) == 1 for key in set(keys))
    after = leakage(splits, images, groups)
    assert after["images"]["test_in_train"] == after["groups"]["validation_in_train"] == 0


def test_fractions_are_met_and_the_seed_decides() -> None:
    groups = [f"g{i // 6}" for i in range(6000)]
    splits = split_groups(groups, FRACTIONS, 0)
    for split, fraction in FRACTIONS.items():
        assert abs(splits.count(split) / 6000 - fraction) < 0.01
    assert splits == split_groups(groups, FRACTIONS, 0)
    assert splits != split_groups(groups, FRACTIONS, 1)


def test_leakage_counts_what_stands_in_train_too() -> None:
    found = leakage(["train", "test", "test", "validation"], ["a", "a", "b", "c"], ["g", "g", "g", "h"])
    assert found["images"] == {"train": 1, "validation": 1, "test": 2, "validation_in_train": 0, "test_in_train": 1}
    assert found["groups"] == {"train": 1, "validation": 1, "test": 1, "validation_in_train": 0, "test_in_train": 1}
