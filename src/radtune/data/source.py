"""Where the shards come from: a folder of parquet files or a hub; list them, then bring each under one name.

    radtune list-shards --source local --path FOLDER --out shards.json
    radtune fetch-shard --source local --origin FOLDER/SHARD.parquet --out SHARD.parquet

shards.json: {source, repo, revision, shards: [{name, split, origin, size, sha256}]}; `origin` is a path for local data,
the path inside the repository for a hub, `sha256` what the hub states (null for local data).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from radtune.files import UserError, replacing, write_json
from radtune.hubs import download_file, list_files

_SPLITS = {"train": "train", "valid": "validation", "val": "validation", "dev": "validation", "test": "test"}


def _shard(origin: str, size: int | None, sha256: str | None) -> dict[str, Any]:
    name = Path(origin).stem
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise UserError(f"{origin}: a shard's name may hold letters, digits, '.', '_' and '-' alone; rename the file.")
    word = re.split(r"[^a-z]", name.lower())[0]
    split = next((split for prefix, split in _SPLITS.items() if word.startswith(prefix)), "train")
    return {"name": name, "split": split, "origin": origin, "size": size, "sha256": sha256}


def list_shards(out: Path, source: str, path: Path | None = None, repo: str = "", revision: str = "") -> None:
    """Write shards.json. Raises UserError where there is no parquet file, or two of one name."""
    if source == "local":
        if path is None:
            raise UserError("list-shards --source local needs --path FOLDER.")
        files = sorted(path.rglob("*.parquet"))
        shards = [_shard(str(file), file.stat().st_size, None) for file in files]
        where, revision = str(path), ""
    else:
        files_there, revision = list_files(source, repo, revision)
        shards = [_shard(*entry) for entry in files_there if entry[0].endswith(".parquet")]
        where = f"{source}: {repo}@{revision}"
    if not shards:
        raise UserError(f"{where} holds no .parquet file; check dataset.path or dataset.repo.")
    names = [shard["name"] for shard in shards]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{where} holds two files named {twice}.parquet; give each its own name.")
    write_json(out, {"source": source, "repo": repo, "revision": revision, "shards": shards})


def fetch_shard(origin: str, out: Path, source: str, repo: str = "", revision: str = "") -> None:
    """Bring one shard, as shards.json names its origin, to `out`: a link for local data, a download from a hub."""
    if source != "local":
        return download_file(source, repo, revision, origin, out)
    with replacing(out) as temporary:
        temporary.symlink_to(Path(origin).absolute())
