"""The nearest training images, on images whose likeness is known."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from radtune.evaluate.neighbours import KEPT, find_neighbours, thumbnails
from radtune.files import UserError, write_json


def blob(x: int, y: int, light: int = 200) -> Image.Image:
    rows, columns = np.mgrid[0:224, 0:224]
    distance = np.hypot(rows - y, columns - x)
    return Image.fromarray((light * np.exp(-((distance / 60) ** 2)) + 20).astype(np.uint8))


def write(folder: Path, split: str, images: dict[str, Image.Image]) -> Path:
    for name, image in images.items():
        image.save(folder / name)
    write_json(folder / f"{split}.json", [{"images": [name]} for name in images for _ in range(2)])
    return folder / f"{split}.json"


def test_the_nearest_come_first_each_image_once(tmp_path: Path) -> None:
    train = write(tmp_path, "train", {f"t{x}.jpg": blob(x, 100) for x in range(20, 200, 20)})
    asked = write(tmp_path, "test", {"a.jpg": blob(61, 100, 120), "b.png": blob(178, 104)})
    find_neighbours(train, asked, tmp_path, tmp_path / "out.parquet")
    found = {row["image"]: row for row in pq.read_table(tmp_path / "out.parquet").to_pylist()}
    assert found["a.jpg"]["neighbours"][0] == "t60.jpg"
    assert set(found["a.jpg"]["neighbours"][1:3]) == {"t40.jpg", "t80.jpg"}
    assert found["b.png"]["neighbours"][0] == "t180.jpg"
    for row in found.values():
        assert len(row["neighbours"]) == KEPT
        assert row["similarity"] == sorted(row["similarity"], reverse=True)
        assert 0.98 < row["similarity"][0] <= 1.0001


def test_few_training_images_and_a_blank_one(tmp_path: Path) -> None:
    train = write(tmp_path, "train", {"t.jpg": blob(50, 50)})
    asked = write(tmp_path, "test", {"blank.png": Image.new("RGB", (224, 224))})
    find_neighbours(train, asked, tmp_path, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"image": "blank.png", "neighbours": ["t.jpg"], "similarity": [0]}
    ]


def test_a_thumbnail_has_mean_0_and_length_1(tmp_path: Path) -> None:
    write(tmp_path, "train", {"a.png": blob(60, 60), "b.png": blob(60, 60, 90)})
    first, second = thumbnails(tmp_path, ["a.png", "b.png"])
    assert abs(first.sum()) < 1e-4
    assert first @ first == pytest.approx(1, abs=1e-5)
    assert first @ second == pytest.approx(1, abs=1e-3)  # brightness and contrast make no difference


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read"):
        thumbnails(tmp_path, ["a.jpg"])
