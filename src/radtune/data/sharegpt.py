"""Samples to the ShareGPT JSON that LLaMA-Factory loads, one file a split, and its dataset_info.json.

    radtune sharegpt --samples samples.parquet --geometry geometry/*.parquet --prompts zh.yaml --out DIR

An entry: id, tag, group, messages (user: `<image>` first, then the prompt; assistant: the answer), images (one path,
relative to the media folder).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from radtune.data.answers import TAGS, render
from radtune.data.groups import SPLITS
from radtune.files import UserError, replacing, write_json, write_text
from radtune.frames import read_geometry

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
    places = {sha256: (f"{media}/{file}", letterbox) for sha256, file, letterbox in read_geometry(geometry)}
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make one an entry
    names = ["sample", "tag", "group", "split", "image_sha256", "parts"]
    kept = pq.read_table(samples, columns=names, filters=[("status", "=", "kept")])
    for id, tag, group, split, sha256, parts in zip(*(kept[name].to_pylist() for name in names), strict=True):
        file, letterbox = places[sha256]
        answer = render(tag, json.loads(parts), record=record, box=box, letterbox=letterbox)
        choices = wordings[tag]
        # by seed, id and tag, so that a new row never changes another row's prompt
        choice = int.from_bytes(hashlib.sha256(f"{seed}/{id}/{tag}".encode()).digest()[:8], "big")
        prompt = choices[choice % len(choices)]
        messages = [{"role": "user", "content": f"<image>{prompt}"}, {"role": "assistant", "content": answer}]
        entry = {"id": id, "tag": tag, "group": group, "messages": messages, "images": [file]}
        lines[split].append(encode(entry))
    with replacing(out) as folder:
        folder.mkdir()
        for split in SPLITS:  # one entry a line: quick to write, to read in part, and to compare
            write_text(folder / f"{split}.json", "[\n" + ",\n".join(lines[split]) + "\n]\n")
        write_json(folder / "dataset_info.json", {split: {"file_name": f"{split}.json"} | _FILE for split in SPLITS})
