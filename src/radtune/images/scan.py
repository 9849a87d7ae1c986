"""Look at every unique image of a shard once: does it decode in full, its size and mode, the box burned into it.

    radtune scan --shard SHARD.parquet --images images.parquet --out scan/SHARD.parquet

One row an image that this shard owns, see SCHEMA. While an image's pixels are in memory, the enhanced images are made
as well, by each of --recipes, {folder: recipe}, for enhance_shard to take: so each image is decoded once.
"""

from __future__ import annotations

import glob
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from radtune.files import replacing
from radtune.flags import Json
from radtune.images import overlay, read
from radtune.images.enhance import Add, Recipe, writing
from radtune.images.overlay import Found
from radtune.images.read import Pixels
from radtune.reasons import Unusable
from radtune.shards import owned_images, owned_rows

SCHEMA = pa.schema(
    [
        ("image_sha256", pa.string()),
        ("width", pa.int32()),  # pixels
        ("height", pa.int32()),
        ("mode", pa.string()),  # Pillow's
        ("box", pa.list_(pa.int32())),  # [x1, y1, x2, y2], original pixels, inclusive edges; null where there is none
        ("box_confidence", pa.float32()),  # 0..1, see overlay.find_box
        ("likeness", pa.binary(32)),  # perceptual hash, the rectangle left out
        ("reason", pa.string()),  # a code of reasons.Reason where the image cannot be used
    ]
)
_HASH = 16  # its side in bits: 8 x 8 cannot tell a neighbouring slice from another patient's
_SIDE = 2 * _HASH  # pixels: what the picture is shrunk to by areas before
_OUTSIDE, _INSIDE = 3, 5  # pixels from the outer edge that the line and its JPEG ringing touch


def scan(
    shard: Path,
    images: Path,
    out: Path,
    column: str = "image",
    recipes: Json | None = None,
) -> None:
    """Write `out`, and for each of `recipes` FOLDER/{shard}/ and its geometry FOLDER/{shard}.parquet.

    What an earlier scan left there or beside FOLDER goes first: it may be of other images.
    """
    read.set_up_process()
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        adds: list[Add] = []
        for name, values in (recipes or {}).items():
            for old in Path(name).parent.glob(f"*/{glob.escape(shard.stem)}"):
                shutil.rmtree(old)
            folder = Path(name) / shard.stem
            adds.append(stack.enter_context(writing(folder, Path(f"{folder}.parquet"), Recipe(**values))))
        for sha256, data in owned_images(shard, owned_rows(shard, images), column):
            row: dict[str, Any] = {"image_sha256": sha256}
            try:
                pixels, row["mode"] = read.decode(data)
                row["height"], row["width"] = pixels.shape[:2]
                found = overlay.find_box(pixels) if pixels.ndim == 3 else None
                if found:
                    row |= {"box": found.box, "box_confidence": found.confidence}
                grey = read.to_grey(pixels)
                for add in adds:
                    add(sha256, pixels, grey, found)
                row["likeness"] = thumbnail(grey, found)
            except Unusable as error:
                row["reason"] = error.reason
            rows.append(row)
    for row in rows:  # in one go: between the large pictures it takes three times as long
        if "likeness" in row:
            row["likeness"] = likeness(row["likeness"])
    with replacing(out) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary)


def thumbnail(grey: Pixels, found: Found | None) -> Pixels:
    """The picture in 32 x 32 pixels without the rectangle, so that one slice with two boxes is recognised: its lines
    take, in `grey` itself, the colour of what lies just outside.
    """
    if found:
        x1, y1, x2, y2 = found.box
        out, inside = _OUTSIDE, _INSIDE
        left, top, right, bottom = max(0, x1 - out), max(0, y1 - out), x2 + out, y2 + out
        across, down = slice(left, right + 1), slice(top, bottom + 1)
        grey[top : y1 + inside, across] = grey[top, across]
        grey[y2 - inside + 1 : bottom + 1, across] = grey[min(bottom, len(grey) - 1), across]
        grey[down, left : x1 + inside] = grey[down, left, None]
        grey[down, x2 - inside + 1 : right + 1] = grey[down, min(right, grey.shape[1] - 1), None]
    return np.asarray(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def likeness(small: Pixels) -> bytes:
    """256-bit perceptual hash (imagehash.dhash) of a thumbnail: like pictures differ in few bits."""
    import imagehash

    return np.packbits(imagehash.dhash(Image.fromarray(small), _HASH).hash).tobytes()
