"""Which row's image is looked at, of the rows that share one; and that no more than those is read."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.data.index import SCHEMA, merge_index
from radtune.files import write_json
from radtune.shards import BATCH, owned_images

Owners = list[dict[str, int | str]]


def owners(folder: Path, shards: dict[str, list[str | None]]) -> Owners:
    """What merge_index makes of shards whose rows hold these images."""
    write_json(folder / "shards.json", {"shards": [{"name": name} for name in shards]})
    paths = []
    for name, images in shards.items():
        rows = [{"row": i, "image_sha256": image} for i, image in enumerate(images)]
        paths.append(folder / f"{name}.parquet")
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA.with_metadata({"sha256": "0"})), paths[-1])
    merge_index(paths, folder / "shards.json", folder / "images.parquet", folder / "manifest.json")
    return pq.read_table(folder / "images.parquet").to_pylist()


def digests(n: int, seed: int = 0) -> list[str]:
    return [value.tobytes().hex() for value in np.random.default_rng(seed).integers(0, 256, (n, 32), np.uint8)]


def test_the_later_rows_of_shuffled_shards_own_nothing_and_shards_share_evenly(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).permutation(np.repeat(digests(2000), 6)).reshape(4, 3000).tolist()
    found = owners(tmp_path, dict(zip("abcd", rows, strict=True)))
    assert sorted(row["image_sha256"] for row in found) == sorted(digests(2000))
    assert [(row["shard"], row["row"]) for row in found] == sorted((row["shard"], row["row"]) for row in found)
    assert all(rows["abcd".index(str(row["shard"]))][int(row["row"])] == row["image_sha256"] for row in found)
    assert max(int(row["row"]) for row in found) < 0.9 * 3000
    assert sum(int(row["row"]) < 1500 for row in found) > 0.95 * 2000
    assert all(0.9 * 500 < n < 1.1 * 500 for n in Counter(row["shard"] for row in found).values())


@pytest.mark.parametrize("missing", [0, 1])
def test_shards_of_the_same_images_in_the_same_order_share_evenly(tmp_path: Path, missing: int) -> None:
    """As where each tag has a shard; in one, some of the first rows may be missing."""
    images = digests(1200)
    found = owners(tmp_path, {"a": list(images), "b": images[missing:], "c": list(images)})
    assert all(0.85 * 400 < n < 1.15 * 400 for n in Counter(row["shard"] for row in found).values())


def test_rows_without_an_image_own_none(tmp_path: Path) -> None:
    one = digests(1)[0]
    assert owners(tmp_path, {"a": [None, one], "b": []}) == [{"shard": "a", "row": 1, "image_sha256": one}]
    assert owners(tmp_path, {"a": [None, None]}) == []


@given(st.integers(1, 5 * BATCH), st.integers(1, 2 * BATCH), st.data())
def test_owned_rows_are_read_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, rows: int, group: int, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("shard") / "s.parquet"
    images = [{"bytes": b"%d" % row, "path": None} for row in range(rows)]
    pq.write_table(pa.table({"image": images}), path, row_group_size=group)
    owned = {row: f"sha of {row}" for row in sorted(data.draw(st.sets(st.integers(0, rows - 1))))}
    assert list(owned_images(path, owned, "image")) == [(sha256, b"%d" % row) for row, sha256 in owned.items()]
