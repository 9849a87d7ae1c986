"""Parquet shards: their schema, their rows in small batches, and the images that a shard owns, each once.

An image's bytes are repeated in every row (and often in several shards); images.parquet names one owner row for each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from radtune.files import UserError

SPLITS = ("train", "validation", "test")
BATCH = 16  # rows: what a core's cache holds is hashed or decoded in two thirds of the time
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
BUFFER = 2**18  # bytes read at a time, for the same; without it a whole column chunk, up to a whole shard, is held


def dataset_schema(*more: str) -> pa.Schema:
    """The data set's columns as the Hugging Face hub shows them, and `more` columns of strings."""
    strings = ("id", "question", "text", *more)
    types = dict.fromkeys(("id", "image", *strings[1:]), pa.string())
    types["image"] = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        name: {"dtype": "string", "_type": "Value"} if name in strings else {"_type": "Image"} for name in types
    }
    return pa.schema(list(types.items()), metadata={"huggingface": json.dumps({"info": {"features": features}})})


SCHEMA = dataset_schema()


def open_shard(path: Path, image: str, texts: Sequence[str] = ()) -> pq.ParquetFile:
    """The shard, to be streamed; raises UserError where it is no parquet, or a column is missing or of another kind:
    `image` has the hub's structs of bytes and path, `texts` are strings or whole numbers.
    """
    try:
        file = pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
    except (OSError, pa.ArrowInvalid) as error:
        why = str(error).rstrip(".")
        raise UserError(f"{path} is no readable parquet file ({why}); fetch or write it again.") from None
    schema = file.schema_arrow
    for name in (image, *texts):
        if name not in schema.names:
            there = ", ".join(schema.names)
            raise UserError(f"{path} has no column {name!r} (it has {there}); name it under dataset.columns.")
        kind = schema.field(name).type
        if name == image and not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
            raise UserError(f"{path}: column {name!r} holds {kind}, not images as bytes and path; write it as hubs do.")
        if name != image and not any(fits(kind) for fits in _TEXTS):
            raise UserError(f"{path}: column {name!r} holds {kind}, not text; name another under dataset.columns.")
    return file


def owned_rows(shard: Path, images: Path) -> dict[int, str]:
    """{row: image_sha256} of the images that images.parquet gives to this shard, in row order."""
    owned: dict[int, str] = {}
    # pyarrow's own filters would load its datasets, a tenth of a start
    with pq.ParquetFile(images, read_dictionary=["shard"]) as file:
        place = file.schema.names.index("shard")
        for group in range(file.num_row_groups):
            span = file.metadata.row_group(group).column(place).statistics
            if span.min <= shard.stem <= span.max:
                table = file.read_row_group(group).combine_chunks()
                shards = table["shard"].chunk(0)
                ours = np.array([name == shard.stem for name in shards.dictionary.to_pylist()])
                rows = np.flatnonzero(ours[shards.indices.to_numpy()])
                if len(rows):  # they stand together
                    table = table.slice(rows[0], len(rows))
                    owned |= zip(table["row"].to_pylist(), table["image_sha256"].to_pylist(), strict=True)
    return owned


def owned_images(shard: Path, owned: dict[int, str], column: str) -> Iterator[tuple[str, bytes]]:
    """(image_sha256, bytes) of each owned row, in row order; row groups are read as far as they hold owned rows."""
    file = open_shard(shard, column)
    first = 0
    with progress(shard.stem, len(owned), "image") as done:
        for group in range(file.num_row_groups):
            rows = range(first, first + file.metadata.row_group(group).num_rows)
            first = rows.stop
            wanted = [row for row in rows if row in owned]
            if not wanted:
                continue
            row = rows.start
            columns = [f"{column}.bytes"]
            for batch in file.iter_batches(batch_size=BATCH, row_groups=[group], columns=columns, use_threads=False):
                values = batch.column(0).field("bytes")
                for i in range(len(values)):
                    if row in owned:
                        yield owned[row], values[i].as_py() or b""
                        done(1)
                    row += 1
                if row > wanted[-1]:
                    break


@contextmanager
def progress(name: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal; yields what to call with how many more are done. Elsewhere tqdm, a tenth of a start, is not
    even imported.
    """
    if not sys.stderr.isatty():
        yield lambda more: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, desc=name) as bar:
        yield bar.update


def read_image(shard: Path, row: int, column: str) -> bytes:
    """The image bytes of one row, by reading its row group alone."""
    file = open_shard(shard, column)
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row < rows:
            for batch in file.iter_batches(batch_size=BATCH, row_groups=[group], columns=[f"{column}.bytes"]):
                if row < len(batch):
                    return bytes(batch.column(0).field("bytes")[row].as_py() or b"")
                row -= len(batch)
        row -= rows
    raise IndexError(f"{shard} has no row {row}")
