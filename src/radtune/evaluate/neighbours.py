"""The training images nearest to each image of another split, by their pixels: what a copyist would answer from.

radtune find-neighbours --train train.json --asked test.json --media-dir images/ --out neighbours.parquet
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radtune.files import UserError, read_json, replacing

SIDE = 32  # px of the thumbnail that stands for an image
KEPT = 5  # neighbours of each image
_AT_ONCE = 1024  # images compared with all of train at a time


def find_neighbours(train: Path, asked: Path, media_dir: Path, out: Path) -> None:
    """Write a row for each image of `asked` (image), with those of `train` nearest to it (neighbours) and their
    correlation, -1 to 1 (similarity), nearest first.

    Both are ShareGPT files, whose images are as the model sees them. Every pair is looked at, in products of matrices.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, others = (
        sorted({image for record in read_json(path) for image in record["images"]}) for path in (train, asked)
    )
    known, new = (thumbnails(media_dir, images) for images in (names, others))
    kept = min(KEPT, len(names))
    nearest, similarity = np.empty((len(others), kept), np.int64), np.empty((len(others), kept))
    for start in range(0, len(others), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        alike = new[rows] @ known.T
        some = np.argpartition(-alike, kept - 1, axis=1)[:, :kept]
        order = np.lexsort((some, -np.take_along_axis(alike, some, axis=1)))
        nearest[rows] = np.take_along_axis(some, order, axis=1)
        similarity[rows] = np.take_along_axis(alike, nearest[rows], axis=1)
    columns: dict[str, Any] = {
        "image": pa.array(others, pa.string()),
        "neighbours": pa.array([[names[n] for n in row] for row in nearest], pa.list_(pa.string())),
        "similarity": pa.array(similarity.tolist(), pa.list_(pa.float64())),
    }
    with replacing(out) as temporary:
        pq.write_table(pa.table(columns), temporary)


def thumbnails(media_dir: Path, images: list[str]) -> NDArray[np.float32]:
    """(images, SIDE * SIDE): grey thumbnails with mean 0 and length 1, so that a product is a correlation."""
    from PIL import Image

    found = np.zeros((len(images), SIDE * SIDE), np.float32)
    for n, name in enumerate(images):
        try:
            with Image.open(media_dir / name) as image:
                image.draft("L", (2 * SIDE, 2 * SIDE))  # decodes no more of a JPEG than that
                grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        except OSError as error:
            raise UserError(f"{media_dir / name}: cannot be read ({error}); prepare the data again.") from None
        pixels = np.asarray(grey, np.float32).ravel()
        pixels = pixels - pixels.mean()
        found[n] = pixels / max(float(np.linalg.norm(pixels)), 1e-6)
    return found
