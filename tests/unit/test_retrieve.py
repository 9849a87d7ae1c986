"""Similar cases: the nearest by brute force, none of the same group, the same answers when an index is extended."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radtune.files import UserError
from radtune.predict import retrieve
from radtune.predict.retrieve import Case, build_index, find_cases, nearest

D = 16
Rows = dict[str, tuple[str, str, np.ndarray]]  # sha256: group, split, vector


def drawn(count: int, seed: int = 0, group: int = 2, split: str = "train") -> Rows:
    """`group` images a group."""
    found = np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    names = [hashlib.sha256(f"{seed}/{n}".encode()).hexdigest() for n in range(count)]
    return {name: (f"{seed}-{n // group}", split, found[n]) for n, name in enumerate(names)}


def write(folder: Path, shards: dict[str, Rows]) -> tuple[list[Path], Path]:
    paths = []
    for shard, rows in shards.items():
        paths.append(folder / f"{shard}.parquet")
        table = {"image": [f"enhanced/{shard}/{sha}.jpg" for sha in rows], "vector": [v for *_, v in rows.values()]}
        pq.write_table(pa.table(table), paths[-1])
    every = [(sha, group, split, "kept") for rows in shards.values() for sha, (group, split, _) in rows.items()]
    samples = folder / "samples.parquet"
    pq.write_table(pa.table(list(zip(*every, strict=True)), ["image_sha256", "group", "split", "status"]), samples)
    return paths, samples


def built(folder: Path, shards: dict[str, Rows], out: str = "index") -> Path:
    build_index(*write(folder, shards), folder / out, encoder="drawn")
    return folder / out


def brute(rows: Rows, vector: np.ndarray, k: int, without: str) -> list[str]:
    """Groups by their best member."""
    best: dict[str, float] = {}
    for group, _, other in rows.values():
        best[group] = max(best.get(group, -2), float(vector @ other))
    return sorted(best.keys() - {without}, key=lambda group: -best[group])[:k]


def test_the_nearest_groups_are_those_of_every_pair(tmp_path: Path) -> None:
    rows = drawn(500)
    index = built(tmp_path, {"a": rows})
    queries = np.stack([vector for *_, vector in drawn(40, seed=1).values()])
    without = [f"0-{n}" for n in range(40)]
    found = nearest(index, queries, 5, without)
    for vector, group, cases in zip(queries, without, found, strict=True):
        assert [case.group for case in cases] == brute(rows, vector, 5, group)
        alike = [case.similarity for case in cases]
        assert alike == sorted(alike, reverse=True)
        sha = Path(cases[0].image).stem
        assert alike[0] == pytest.approx(float(rows[sha][2] @ vector), abs=1e-5)


@pytest.mark.parametrize("exact", [10**6, 0])
def test_a_group_larger_than_what_is_fetched_at_first_never_answers_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: int
) -> None:
    monkeypatch.setattr(retrieve, "EXACT", exact)
    monkeypatch.setattr(retrieve, "PROBES", 1)
    vector = np.eye(D, dtype=np.float32)[0]
    own = {f"own{n}": ("own", "train", vector) for n in range(300)}
    own |= {
        name: ("own", "train", (v + 9 * vector) / np.linalg.norm(v + 9 * vector))
        for name, (*_, v) in drawn(300, 7).items()
    }
    others = drawn(100)
    index = built(tmp_path, {"a": own | others})
    (cases,) = nearest(index, vector[None], 4, ["own"])
    assert [case.group for case in cases] == brute(others, vector, 4, "own")
    assert nearest(index, vector[None], 4, [None])[0][0].group == "own"


def test_fewer_groups_than_asked_for_are_fewer_cases(tmp_path: Path) -> None:
    index = built(tmp_path, {"a": drawn(6)})
    (cases,) = nearest(index, next(iter(drawn(1, 1).values()))[2][None], 5, ["0-1"])
    assert {case.group for case in cases} == {"0-0", "0-2"}
    assert nearest(index, np.empty((0, D), np.float32), 5, []) == []


def test_an_index_without_a_case_has_no_answers(tmp_path: Path) -> None:
    index = built(tmp_path, {"a": drawn(4, split="test")})
    assert nearest(index, np.ones((2, D), np.float32), 3, [None, None]) == [[], []]


def test_of_equal_cases_the_first_by_name_wherever_it_stands(tmp_path: Path) -> None:
    vector = np.eye(D, dtype=np.float32)[0]
    equal = {f"{n:03}": (f"g{n}", "train", vector) for n in range(200)}
    later = dict(reversed(equal.items()))
    for n, rows in enumerate((equal, later)):
        index = built(tmp_path, {"a": rows}, f"index{n}")
        (cases,) = nearest(index, vector[None], 3, ["g1"])
        assert [case.group for case in cases] == ["g0", "g2", "g3"]


@pytest.mark.parametrize("exact", [10**6, 0])
def test_an_extended_index_answers_as_one_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: int
) -> None:
    monkeypatch.setattr(retrieve, "EXACT", exact)
    monkeypatch.setattr(retrieve, "PROBES", 10**6)  # every cell, so that answers are those of all vectors
    monkeypatch.setattr(retrieve, "CANDIDATES", 10**6)
    first, more = {"b": drawn(400)}, {"a": drawn(150, seed=2)}
    index = built(tmp_path, first)
    before = names(index)
    built(tmp_path, more | first)
    assert names(index)[:400] == before  # added to, though shard a goes before b in one made anew
    anew = built(tmp_path, more | first, "anew")
    assert names(anew)[:400] != before
    assert sorted(names(anew)) == sorted(names(index))
    queries = np.stack([vector for *_, vector in drawn(30, seed=3).values()])
    assert nearest(index, queries, 6, ["0-1"] * 30) == nearest(anew, queries, 6, ["0-1"] * 30)


def names(index: Path) -> list[str]:
    return pq.read_table(index / "cases.parquet")["image"].to_pylist()


def test_what_left_train_or_has_another_vector_makes_the_index_anew(tmp_path: Path) -> None:
    rows = drawn(50)
    index = built(tmp_path, {"b": rows})
    gone, changed, *_ = rows
    other = rows | {gone: ("0-0", "test", rows[gone][2])}
    built(tmp_path, {"b": other})
    assert gone not in {Path(name).stem for name in names(index)}
    other[changed] = ("0-0", "train", -rows[changed][2])
    built(tmp_path, {"b": other})
    (cases,) = nearest(index, -rows[changed][2][None], 1, [None])
    assert (Path(cases[0].image).stem, cases[0].similarity) == (changed, 1.0)


def test_another_group_of_the_same_images_is_taken_over(tmp_path: Path) -> None:
    rows = drawn(20)
    index = built(tmp_path, {"b": rows})
    built(tmp_path, {"b": {sha: ("one", split, vector) for sha, (_, split, vector) in rows.items()}})
    (cases,) = nearest(index, next(iter(rows.values()))[2][None], 5, [None])
    assert [case.group for case in cases] == ["one"]


def test_a_damaged_index_is_one_sentence_and_the_next_is_made_anew(tmp_path: Path) -> None:
    index = built(tmp_path, {"a": drawn(20)})
    vector = next(iter(drawn(1, 1).values()))[2][None]
    with pytest.raises(UserError, match=r"index holds vectors of 16 numbers, not 8; take its own encoder\."):
        nearest(index, vector[:, :8], 3, [None])
    expected = nearest(index, vector, 3, [None])
    for path in (index / "index.faiss", tmp_path / ".index.earlier" / "index.faiss"):
        path.unlink(missing_ok=True)
        path.write_bytes(b"IxFI, cut off")
    retrieve._read.cache_clear()
    with pytest.raises(UserError, match=r"no index of cases can be read \(.*\); delete it and make it again\.$"):
        nearest(index, vector, 3, [None])
    built(tmp_path, {"a": drawn(20)})
    assert nearest(index, vector, 3, [None]) == expected
    with pytest.raises(UserError, match=r"nowhere: no index"):
        nearest(tmp_path / "nowhere", vector, 3, [None])


def test_the_cases_of_a_split_are_of_train_and_of_other_groups(tmp_path: Path) -> None:
    train, test = drawn(60), drawn(10, seed=4, split="test")
    test |= {name: ("0-3", "test", vector) for name, (*_, vector) in drawn(2, seed=5).items()}
    paths, samples = write(tmp_path, {"a": train | drawn(5, 6, split="validation"), "b": test})
    build_index(paths, samples, tmp_path / "index", encoder="drawn")
    for split, rows in (("test", test), ("train", train)):
        find_cases(tmp_path / "index", paths, samples, tmp_path / f"{split}.parquet", split=split)
        table = pq.read_table(tmp_path / f"{split}.parquet").to_pylist()
        assert [Path(row["image"]).stem for row in table] == list(rows)
        for row in table:
            group, _, vector = rows[Path(row["image"]).stem]
            assert row["groups"] == brute(train, vector, retrieve.KEPT, group)
            assert {train[Path(image).stem][1] for image in row["cases"]} == {"train"}


def test_a_case_of_the_own_group_stops_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(4)
    paths, samples = write(tmp_path, {"a": rows})
    monkeypatch.setattr(retrieve, "nearest", lambda *_: [[Case("x", group, 1.0)] for group, *_ in rows.values()])
    with pytest.raises(AssertionError, match="own group"):
        find_cases(tmp_path, paths, samples, tmp_path / "out.parquet", split="train")
    assert not (tmp_path / "out.parquet").exists()
