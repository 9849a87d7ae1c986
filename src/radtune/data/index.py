"""Index one shard: every row's id, tag, image digest and parsed answer, or the reason why it cannot be used.

    radtune index --shard SHARD.parquet --split train --out index/SHARD.parquet
    radtune merge-index --index index/*.parquet --shards shards.json --images images.parquet --manifest manifest.json

images.parquet gives each unique image to the first shard and row that holds it, so that it is decoded once.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from radtune.data.answers import parse, tag_of
from radtune.files import read_json, replacing, write_json
from radtune.reasons import Reason, Unusable
from radtune.shards import BATCH, open_shard

SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("row", pa.int64()),
        ("id", pa.string()),
        ("tag", pa.string()),
        ("split_official", pa.string()),
        ("image_sha256", pa.string()),
        ("parts", pa.string()),  # the parsed answer as JSON; null where there is a reason
        ("reason", pa.string()),
        ("raw", pa.string()),  # the text as it came, cut to RAW_CHARS
    ]
)
RAW_CHARS = 2000


def index(shard: Path, split: str, out: Path, columns: dict[str, str]) -> None:
    """One row of SCHEMA per input row, in order. `columns` names the shard's columns for id, image, question, text."""
    names = [columns[key] for key in ("id", "image", "question", "text")]
    file = open_shard(shard, names)
    name, row = shard.stem, 0
    with (
        replacing(out) as temporary,
        pq.ParquetWriter(temporary, SCHEMA) as writer,
        tqdm(total=file.metadata.num_rows, unit="row", desc=name, disable=None) as progress,
    ):
        for batch in file.iter_batches(batch_size=BATCH, columns=names):
            rows = []
            for sample in zip(*(batch.column(key).to_pylist() for key in names), strict=True):
                rows.append({"shard": name, "row": row, "split_official": split} | _entry(*sample))
                row += 1
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            progress.update(len(rows))
        with shard.open("rb") as bytes_read:
            writer.add_key_value_metadata({"sha256": hashlib.file_digest(bytes_read, "sha256").hexdigest()})


def _entry(id: str | None, image: dict[str, Any] | None, question: str | None, text: str | None) -> dict[str, Any]:
    data = (image or {}).get("bytes") or b""
    entry: dict[str, Any] = {"id": id or "", "tag": (question or "").strip("<> "), "raw": (text or "")[:RAW_CHARS]}
    entry["image_sha256"] = hashlib.sha256(data).hexdigest() if data else None
    try:
        if not (id or "").strip():
            raise Unusable(Reason.ID_MISSING)
        if not data:
            raise Unusable(Reason.IMAGE_MISSING)
        entry["tag"] = tag_of(question)
        entry["parts"] = json.dumps(parse(entry["tag"], text), ensure_ascii=False)
    except Unusable as error:
        entry["reason"] = error.reason
    return entry


def merge_index(index: list[Path], shards: Path, images: Path, manifest: Path) -> None:
    """Name the owner row of each unique image, and record what was read: every shard with its digest and rows."""
    owners: dict[str, tuple[str, int]] = {}
    read: dict[str, dict[str, Any]] = {}
    for path in sorted(index):
        with pq.ParquetFile(path) as file:
            read[path.stem] = {"sha256": file.metadata.metadata[b"sha256"].decode(), "rows": file.metadata.num_rows}
            table = file.read(["shard", "row", "image_sha256"])
        for shard, row, sha256 in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if sha256:
                owners.setdefault(sha256, (shard, row))
    listing = read_json(shards)
    listing["shards"] = [entry | read[entry["name"]] for entry in listing["shards"]]
    write_json(manifest, listing)
    columns = [[owner[0] for owner in owners.values()], [owner[1] for owner in owners.values()], list(owners)]
    with replacing(images) as temporary:
        pq.write_table(pa.table(columns, names=["shard", "row", "image_sha256"]), temporary)
