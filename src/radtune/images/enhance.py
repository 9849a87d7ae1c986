"""Enhance the images of one shard: CLAHE on grey, aspect-preserving letterbox on black; the ENHANCED image is saved.

    radtune enhance --shard SHARD.parquet --images images.parquet --size 448 --out DIR --geometry DIR.parquet

Out: DIR/{image_sha256}.jpg for each image that the shard owns and that decodes, and a row each of geometry:
image_sha256, file, width, height (original), size, new_width, new_height, left, top: x' = x * new_width / width + left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from radtune.files import replacing
from radtune.images import overlay, read
from radtune.images.clahe import clahe
from radtune.images.inpaint import inpaint
from radtune.images.read import Pixels
from radtune.reasons import Unusable
from radtune.shards import owned_images, owned_rows

SCHEMA = pa.schema(
    [("image_sha256", pa.string()), ("file", pa.string())]
    + [(name, pa.int32()) for name in ("width", "height", "size", "new_width", "new_height", "left", "top")]
)
RECTANGLES = 3  # in a picture, at most
Add = Callable[[str, Pixels, Pixels, overlay.Found | None], None]


class Recipe(NamedTuple):
    """How an image becomes what the model sees. A clip limit of 0 leaves CLAHE out; `size` is in pixels."""

    size: int
    clip_limit: float = 0
    tile_grid: int = 8
    format: Literal["jpeg", "png"] = "jpeg"
    quality: int = 95
    burned_in_box: Literal["keep", "inpaint"] = "keep"

    @property
    def suffix(self) -> str:
        return ".jpg" if self.format == "jpeg" else ".png"


def letterbox(grey: Pixels, size: int) -> tuple[Pixels, dict[str, int]]:
    """`grey` (height x width) scaled by bicubic interpolation to fit a black size x size canvas, centred."""
    height, width = grey.shape
    scale = size / max(width, height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size - new_width) // 2, (size - new_height) // 2
    canvas = cv2.resize(grey, (new_width, new_height), interpolation=cv2.INTER_CUBIC)
    if canvas.shape != (size, size):
        below, right = size - new_height - top, size - new_width - left
        canvas = cv2.copyMakeBorder(canvas, top, below, left, right, cv2.BORDER_CONSTANT, value=(0,))
    return np.asarray(canvas, np.uint8), {
        "width": width,
        "height": height,
        "size": size,
        "new_width": new_width,
        "new_height": new_height,
        "left": left,
        "top": top,
    }


def render(pixels: Pixels, grey: Pixels, found: overlay.Found | None, recipe: Recipe) -> tuple[bytes, dict[str, int]]:
    """The encoded picture and its geometry, from `pixels` and the `grey` of them; `found` is the rectangle that the
    recipe may ask to take out.

    It is, however sure: what is none costs a few pixels beside its lines, one that stays shows the answer. So are
    others, which come to light when it is gone.
    """
    if found and recipe.burned_in_box == "inpaint":
        for _ in range(RECTANGLES):
            pixels = inpaint(pixels, found.box)
            if not (found := overlay.find_box(pixels)):
                break
        grey = read.to_grey(pixels)
    if recipe.clip_limit:
        grey = clahe(grey, recipe.clip_limit, recipe.tile_grid)
    picture, numbers = letterbox(grey, recipe.size)
    options = [cv2.IMWRITE_JPEG_QUALITY, recipe.quality] if recipe.format == "jpeg" else []
    return cv2.imencode(recipe.suffix, picture, options)[1].tobytes(), numbers


@contextmanager
def writing(out: Path, geometry: Path, recipe: Recipe) -> Iterator[Add]:
    """Yield `add(image_sha256, pixels, grey, found)`; folder and geometry appear when all images are in."""
    rows: list[dict[str, Any]] = []
    with replacing(out) as folder, replacing(geometry) as table:
        folder.mkdir()

        def add(sha256: str, pixels: Pixels, grey: Pixels, found: overlay.Found | None) -> None:
            data, numbers = render(pixels, grey, found, recipe)
            rows.append({"image_sha256": sha256, "file": sha256 + recipe.suffix} | numbers)
            (folder / rows[-1]["file"]).write_bytes(data)

        yield add
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), table)


def enhance(
    shard: Path,
    images: Path,
    out: Path,
    geometry: Path,
    *,
    size: int,
    clip_limit: float = 0,
    tile_grid: int = 8,
    format: Literal["jpeg", "png"] = "jpeg",
    quality: int = 95,
    burned_in_box: Literal["keep", "inpaint"] = "keep",
    column: str = "image",
) -> None:
    """Write the shard's enhanced images and their geometry. Images that do not decode are left to `scan`, which says
    why.
    """
    recipe = Recipe(size, clip_limit, tile_grid, format, quality, burned_in_box)
    read.set_up_process()
    with writing(out, geometry, recipe) as add:
        for sha256, data in owned_images(shard, owned_rows(shard, images), column):
            try:
                pixels = read.decode(data).pixels
            except Unusable:
                continue
            found = overlay.find_box(pixels) if burned_in_box == "inpaint" and pixels.ndim == 3 else None
            add(sha256, pixels, read.to_grey(pixels), found)
