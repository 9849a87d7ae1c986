"""Samples to the ShareGPT JSON that LLaMA-Factory loads, one file a split, and its dataset_info.json.

    radtune sharegpt --samples samples.parquet --geometry geometry/*.parquet --prompts zh.yaml --out DIR

An entry: id, tag, group, messages (user: `<image>` first, then the prompt; assistant: the answer), images (one path,
relative to the media folder).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from radtune.data.answers import TAGS, render
from radtune.data.boxes import Letterbox
from radtune.data.groups import SPLITS
from radtune.files import UserError, replacing, write_json

_FILE = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
}


def read_prompts(path: Path) -> dict[str, list[str]]:
    """The wordings of each tag; raises UserError where a tag has none or a key is no tag."""
    prompts = yaml.safe_load(path.read_text(encoding="utf-8"))
    for tag in TAGS:
        wordings = prompts.get(tag) if isinstance(prompts, dict) else None
        if (
            not isinstance(wordings, list)
            or not wordings
            or not all(isinstance(w, str) and w.strip() for w in wordings)
        ):
            raise UserError(f"{path}: {tag} needs a list of one or more wordings.")
    unknown = sorted(set(prompts) - set(TAGS))
    if unknown:
        raise UserError(f"{path}: {unknown[0]} is no known tag (they are {', '.join(TAGS)}).")
    return dict(prompts)


def write_sharegpt(
    samples: Path, geometry: list[Path], prompts: Path, out: Path, *, media: str, record: str, box: str, seed: int
) -> None:
    """Write DIR/{split}.json and DIR/dataset_info.json. `media` is the recipe's folder under the media folder."""
    wordings = read_prompts(prompts)
    places: dict[str, tuple[str, Letterbox]] = {}
    for path in sorted(geometry):
        for row in pq.read_table(path).to_pylist():
            sha256, file = row.pop("image_sha256"), row.pop("file")
            places[sha256] = (f"{media}/{path.stem}/{file}", Letterbox(**row))
    entries: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for row in pq.read_table(samples, filters=[("status", "=", "kept")]).to_pylist():
        file, letterbox = places[row["image_sha256"]]
        answer = render(row["tag"], json.loads(row["parts"]), record=record, box=box, letterbox=letterbox)
        choices = wordings[row["tag"]]
        # by seed, id and tag, so that a new row never changes another row's prompt
        choice = int.from_bytes(hashlib.sha256(f"{seed}/{row['id']}/{row['tag']}".encode()).digest()[:8], "big")
        entries[row["split"]].append(
            {
                "id": row["id"],
                "tag": row["tag"],
                "group": row["group"],
                "messages": [
                    {"role": "user", "content": "<image>" + choices[choice % len(choices)]},
                    {"role": "assistant", "content": answer},
                ],
                "images": [file],
            }
        )
    with replacing(out) as folder:
        folder.mkdir()
        for split in SPLITS:
            write_json(folder / f"{split}.json", entries[split])
        write_json(folder / "dataset_info.json", {split: {"file_name": f"{split}.json"} | _FILE for split in SPLITS})
