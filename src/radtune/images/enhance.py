"""Enhance the images of one shard: CLAHE on grey, aspect-preserving letterbox on black; the ENHANCED image is saved.

    radtune enhance --shard SHARD.parquet --images images.parquet --size 448 --out DIR --geometry DIR.parquet

Out: DIR/{image_sha256}.jpg for each image that the shard owns and that decodes, and a row each of geometry:
image_sha256, file, width, height (original), size, new_width, new_height, left, top: x' = x * new_width / width + left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from radtune.files import replacing
from radtune.images import overlay, read
from radtune.images.read import Pixels
from radtune.reasons import Unusable
from radtune.shards import owned_images

SCHEMA = pa.schema(
    [("image_sha256", pa.string()), ("file", pa.string())]
    + [(name, pa.int32()) for name in ("width", "height", "size", "new_width", "new_height", "left", "top")]
)


def letterbox(grey: Pixels, size: int) -> tuple[Pixels, dict[str, int]]:
    """`grey` (height x width) scaled by bicubic interpolation to fit a black size x size canvas, centred."""
    height, width = grey.shape
    scale = size / max(width, height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size - new_width) // 2, (size - new_height) // 2
    canvas = np.zeros((size, size), np.uint8)
    canvas[top : top + new_height, left : left + new_width] = cv2.resize(
        grey, (new_width, new_height), interpolation=cv2.INTER_CUBIC
    )
    return canvas, {
        "width": width,
        "height": height,
        "size": size,
        "new_width": new_width,
        "new_height": new_height,
        "left": left,
        "top": top,
    }


def enhance(
    shard: Path,
    images: Path,
    out: Path,
    geometry: Path,
    *,
    size: int,
    clip_limit: float = 0,
    tile_grid: int = 8,
    format: str = "jpeg",
    quality: int = 95,
    burned_in_box: str = "keep",
    column: str = "image",
) -> None:
    """Write the shard's enhanced images and their geometry. `clip_limit` 0 leaves CLAHE out; images that do not decode
    are left to `scan`, which says why.
    """
    cv2.setNumThreads(1)  # one process a core is the workflow's business
    clahe = cv2.createCLAHE(clip_limit, (tile_grid, tile_grid)) if clip_limit else None
    suffix, options = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]) if format == "jpeg" else (".png", [])
    rows: list[dict[str, Any]] = []
    with replacing(out) as folder, replacing(geometry) as table:
        folder.mkdir()
        for sha256, data in owned_images(shard, images, column):
            try:
                pixels = read.rgb(read.open_image(data))
            except Unusable:
                continue
            if burned_in_box == "inpaint" and (found := overlay.find_box(pixels)):
                pixels = overlay.inpaint(pixels, found.box)
            grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
            picture, numbers = letterbox(clahe.apply(grey) if clahe else grey, size)
            name = sha256 + suffix
            (folder / name).write_bytes(cv2.imencode(suffix, picture, options)[1].tobytes())
            rows.append({"image_sha256": sha256, "file": name} | numbers)
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), table)
