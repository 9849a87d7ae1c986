"""Index one shard: every row's id, tag, image digest and parsed answer, or the reason why it cannot be used.

    radtune index --shard SHARD.parquet --split train --out index/SHARD.parquet
    radtune merge-index --index index/*.parquet --shards shards.json --images images.parquet --manifest manifest.json

images.parquet gives each unique image to one of the shards and rows that hold it, so that it is decoded once.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from radtune.data.agreement import stated
from radtune.data.answers import Parts, parse, tag_of
from radtune.files import read_json, replacing, write_json
from radtune.reasons import Reason, Unusable
from radtune.shards import BATCH, open_shard, progress

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("tag", pa.string()),
        ("image_sha256", pa.string()),
        ("parts", pa.string()),  # the parsed answer as JSON
        ("form", pa.string()),  # of the coordinates in it, see answers.FORMS
        ("stated", pa.string()),  # what it says of the region, as JSON, see agreement.stated
        ("reason", pa.string()),  # a code of reasons.Reason where the row cannot be used
        ("raw", pa.string()),  # the text as it came, cut to RAW_CHARS
        ("kin", pa.string()),  # the data set's own group (a patient or series), if it has that column
    ]
)
RAW_CHARS = 2000
_ROW_GROUP = 4096
_PARTS = 8  # of a shard; rows of one part count as equally near to its beginning


def index(shard: Path, split: str, out: Path, columns: dict[str, str]) -> None:
    """One row of SCHEMA per input row, in order. `columns` names the shard's columns for id, image, question, text and,
    where the shard has it, group. The file's metadata hold the shard's sha256, its official split and its rows.
    """
    texts = [columns[key] for key in ("id", "question", "text")]
    kin = columns.get("group", "")
    kins = [kin] if kin in open_shard(shard, columns["image"]).schema_arrow.names else []
    file = open_shard(shard, columns["image"], [*texts, *kins])
    with shard.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    metadata = {"sha256": sha256, "split": split, "rows": str(file.metadata.num_rows)}
    row = 0
    with (
        replacing(out) as temporary,
        pq.ParquetWriter(temporary, SCHEMA.with_metadata(metadata), compression="zstd") as writer,
        progress(shard.stem, file.metadata.num_rows, "row") as done,
    ):
        rows: list[dict[str, Any]] = []
        names = [columns["image"], *texts, *kins]
        for batch in file.iter_batches(batch_size=BATCH, columns=names, use_threads=False):  # they cost a tenth
            id, question, text = (_strings(batch.column(name)) for name in texts)
            bytes_ = batch.column(columns["image"]).field("bytes")
            of = _strings(batch.column(kin)) if kins else [None] * len(batch)
            for i in range(len(batch)):
                entry = _entry(id[i], bytes_[i].as_buffer(), question[i], text[i])
                rows.append({"row": row, "kin": of[i]} | entry)
                row += 1
            if len(rows) >= _ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
                rows = []
            done(len(batch))
        writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def _strings(column: pa.Array) -> list[str | None]:
    """Its strings, or its numbers as strings: a cast loads pyarrow's functions, a tenth of a start."""
    values: list[str | None] = (column if pa.types.is_string(column.type) else column.cast(pa.string())).to_pylist()
    return values


def _entry(id: str | None, data: pa.Buffer | None, question: str | None, text: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": id or "", "tag": (question or "").strip("<> "), "raw": (text or "")[:RAW_CHARS]}
    entry["image_sha256"] = hashlib.sha256(data).hexdigest() if data else None
    try:
        if not (id or "").strip():
            raise Unusable(Reason.ID_MISSING)
        if not data:
            raise Unusable(Reason.IMAGE_MISSING)
        entry["tag"] = tag_of(question)
        parts: Parts | None = parse(entry["tag"], text)
    except Unusable as error:
        entry["reason"] = error.reason
        parts = error.parts
    if parts is not None:
        entry["parts"] = orjson.dumps(parts).decode()
        entry["form"] = parts.get("form") or parts.get("bloc_form")
        if says := stated(entry["tag"], parts):
            entry["stated"] = orjson.dumps(says).decode()
    return entry


def merge_index(index: list[Path], shards: Path, images: Path, manifest: Path) -> None:
    """Name the owner row of each unique image, and record what was read: every shard with its digest and rows."""
    read: dict[str, dict[str, Any]] = {}
    digests, rows = [], []
    for path in sorted(index):
        with pq.ParquetFile(path) as file:
            read[path.stem] = {"sha256": file.metadata.metadata[b"sha256"].decode(), "rows": file.metadata.num_rows}
            table = file.read(["image_sha256"])
        digests.append(table["image_sha256"].combine_chunks())
        rows.append(np.arange(len(table)))
    listing = read_json(shards)
    listing["shards"] = [entry | read[entry["name"]] for entry in listing["shards"]]
    write_json(manifest, listing)
    with replacing(images) as temporary:
        pq.write_table(_owners(list(read), digests, rows), temporary, row_group_size=2**16)


def _owners(shards: list[str], digests: list[pa.Array], rows: list[np.ndarray[Any, Any]]) -> pa.Table:
    """shard, row, image_sha256: one row for each unique image, in order of shard and row.

    Of those that hold it the nearest to its shard's beginning, so that of shuffled shards the later row groups own none
    and are not read again; of equally near ones by the image's digest, so that shards share the work evenly.
    """
    found = pa.concat_arrays(digests).dictionary_encode()
    unique = found.dictionary
    codes = found.indices.fill_null(-1).to_numpy()
    part = np.concatenate([_PARTS * place // max(1, len(place)) for place in rows])
    order = np.lexsort((part, codes))[np.count_nonzero(codes < 0) :]
    counts = np.bincount(codes[order], minlength=len(unique))
    starts = np.cumsum(counts) - counts
    first = part[order] == np.repeat(part[order][starts], counts)
    lots = np.array([int(sha256[:8], 16) for sha256 in unique.to_pylist()], np.int64)
    owners = np.sort(order[starts + lots % np.bincount(codes[order][first], minlength=len(unique))])
    names = pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(shards)), [len(part) for part in rows]), shards)
    return pa.table(
        {
            "shard": names.take(pa.array(owners)).cast(pa.string()),
            "row": np.concatenate(rows)[owners],
            "image_sha256": unique.take(pa.array(codes[owners])),
        }
    )
