"""Where the shards come from: a folder of parquet files, object storage or a hub; list them, then fetch each (a local
one is linked).

    radtune list-shards --source huggingface --repo NAME --revision main --out shards.json
    radtune fetch-shard --source huggingface --repo NAME --revision COMMIT --origin data/X.parquet --out X.parquet
    radtune list-shards --source s3 --repo s3://BUCKET/PREFIX --revision "" --out shards.json
    radtune fetch-shard --source s3 --repo s3://BUCKET/PREFIX --revision ETAG --origin X.parquet --out X.parquet

shards.json: {source, repo, revision, shards: [{name, split, origin, size, sha256}]}; `revision` is the commit that the
hub's branch or tag stood for, `origin` a path for local data and the path inside the repository for a hub, `size` (in
bytes) and `sha256` what the hub states (null where it states none, and the sha256 of local data). In object storage
each shard has a `revision` of its own, the object's ETag, and the listing's is a digest over them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from radtune.files import UserError, write_json
from radtune.hubs import HubFile, download_file, list_files

_SPLITS = {"train": "train", "valid": "validation", "val": "validation", "dev": "validation", "test": "test"}


def _shard(file: HubFile) -> dict[str, Any]:
    origin, name = file.path, Path(file.path).stem
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise UserError(f"{origin}: a shard's name may hold letters, digits, '.', '_' and '-' alone; rename the file.")
    word = re.split(r"[^a-z]", name.lower())[0]
    split = next((split for prefix, split in _SPLITS.items() if word.startswith(prefix)), "train")
    stated = file.stated()
    del stated["path"]
    return {"name": name, "split": split, "origin": origin, **stated}


def list_shards(out: Path, source: str, path: Path | None = None, repo: str = "", revision: str = "") -> None:
    """Write shards.json. Raises UserError where there is no parquet file, or two of one name."""
    if source == "local":
        if path is None:
            raise UserError("list-shards --source local needs --path FOLDER.")
        files = sorted(path.rglob("*.parquet"))
        shards = [_shard(HubFile(str(file), file.stat().st_size, None)) for file in files]
        where, revision = str(path), ""
    else:
        files_there, revision = list_files(source, "dataset", repo, revision)
        shards = [_shard(file) for file in files_there if file.path.endswith(".parquet")]
        where = repo if source == "s3" else f"{source}: {repo}@{revision}"
    if not shards:
        raise UserError(f"{where} holds no .parquet file; check dataset.path or dataset.repo.")
    names = [shard["name"] for shard in shards]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{where} holds two files named {twice}.parquet; give each its own name.")
    write_json(out, {"source": source, "repo": repo, "revision": revision, "shards": shards})


def fetch_shard(
    origin: str,
    out: Path,
    source: str,
    repo: str,
    revision: str,
    size: int | None = None,
    sha256: str | None = None,
) -> None:
    """Download one shard, as shards.json names it, to `out`.

    Raises UserError, and leaves nothing at `out`, where the file is not there or not of that size and sha256.
    """
    file = HubFile(origin, size, sha256, revision if source == "s3" else None)
    download_file(source, repo, revision, file, out)
