"""Look at every unique image of a shard once: does it decode in full, its size and mode, the box burned into it.

    radtune scan --shard SHARD.parquet --images images.parquet --out scan/SHARD.parquet

One row an image that this shard owns: image_sha256, width, height (pixels), mode (Pillow's), box ([x1, y1, x2, y2] in
original pixels, or null), reason (a code of reasons.Reason where the image cannot be used, or null).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq

from radtune.files import replacing
from radtune.images import overlay, read
from radtune.reasons import Unusable
from radtune.shards import owned_images

SCHEMA = pa.schema(
    [
        ("image_sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("box", pa.list_(pa.int32())),
        ("reason", pa.string()),
    ]
)


def scan(shard: Path, images: Path, out: Path, column: str = "image") -> None:
    cv2.setNumThreads(1)  # one process a core is the workflow's business
    rows: list[dict[str, Any]] = []
    for sha256, data in owned_images(shard, images, column):
        row: dict[str, Any] = {"image_sha256": sha256}
        try:
            image = read.open_image(data)
            row |= {"width": image.width, "height": image.height, "mode": image.mode}
            found = overlay.find_box(read.rgb(image))
            row["box"] = found.box if found else None
        except Unusable as error:
            row["reason"] = error.reason
        rows.append(row)
    with replacing(out) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary)
