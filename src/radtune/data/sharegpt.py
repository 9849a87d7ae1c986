"""Samples to the ShareGPT JSON that LLaMA-Factory loads, one file a split, and its dataset_info.json.

    radtune sharegpt --samples samples.parquet --geometry geometry/*.parquet --prompts zh.yaml --out DIR

An entry: id, tag, group, messages (user: `<image>` first, then the prompt; assistant: the answer), images (one path,
relative to the media folder).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pyarrow.parquet as pq

from radtune.data.answers import render
from radtune.data.prompts import choose, read_prompts, taught
from radtune.files import UserError, read_json, replacing, write_json, writing_entries
from radtune.frames import read_geometry
from radtune.shards import SPLITS

_ROWS = 4096  # at a time
_FILE = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
}


def write_sharegpt(
    samples: Path,
    geometry: list[Path],
    prompts: Path,
    out: Path,
    *,
    media: str,
    record: str,
    box: str,
    seed: int,
    wordings: int | None = None,
    constraint: bool = False,
    cleaned: Path | None = None,
) -> None:
    """Write DIR/{split}.json and DIR/dataset_info.json. `media` is the recipe's folder under the media folder.

    Of the `prompts` of a tag the first `wordings` are used (None: all), one line before the file's `constraint`.
    `cleaned`, of radtune clean, names samples of train and validation that are left out, or have other parts.
    """
    asked, limit = taught(prompts, wordings, constraint)
    places = {sha256: (f"{media}/{file}", letterbox) for sha256, file, letterbox in read_geometry(geometry)}
    dropped, rewritten = _read_cleaned(cleaned)
    with replacing(out) as folder, ExitStack() as stack:
        folder.mkdir()
        adds = {split: stack.enter_context(writing_entries(folder / f"{split}.json")) for split in SPLITS}
        for status, id, tag, group, split, sha256, parts in _rows(samples):
            if status != "kept":
                continue
            if split != "test":  # which stays as delivered, or experiments could not be compared
                if (id, tag) in dropped:
                    continue
                parts = rewritten.get((id, tag), parts)
            file, letterbox = places[sha256]
            answer = render(tag, orjson.loads(parts), record=record, box=box, letterbox=letterbox)
            prompt = choose(asked, seed, id, tag) + (f"\n{limit}" if limit else "")
            messages = [{"role": "user", "content": f"<image>{prompt}"}, {"role": "assistant", "content": answer}]
            adds[split]({"id": id, "tag": tag, "group": group, "messages": messages, "images": [file]})
        write_json(folder / "dataset_info.json", {split: {"file_name": f"{split}.json"} | _FILE for split in SPLITS})


def _rows(samples: Path) -> Iterator[tuple[str, ...]]:
    """status, sample, tag, group, split, image_sha256 and parts of each row; a filter would load pyarrow's datasets."""
    names = ["status", "sample", "tag", "group", "split", "image_sha256", "parts"]
    with pq.ParquetFile(samples) as file:
        for batch in file.iter_batches(batch_size=_ROWS, columns=names):
            yield from zip(*(batch[name].to_pylist() for name in names), strict=True)


def _read_cleaned(path: Path | None) -> tuple[set[tuple[str, str]], dict[tuple[str, str], str]]:
    """The samples to leave out, and the new parts of others, by id and tag."""
    rows = pq.read_table(path, columns=["id", "tag", "action", "parts"]).to_pylist() if path else []
    dropped = {(row["id"], row["tag"]) for row in rows if row["action"] == "drop"}
    return dropped, {(row["id"], row["tag"]): row["parts"] for row in rows if row["action"] == "rewrite"}


def reword(sharegpt: Path, prompts: Path, out: Path, *, seed: int, wordings: int | None = None) -> None:
    """Write the entries of `sharegpt` with their questions in words that training never uses, and all else as it is.

    Entries of a tag without unseen wordings are left out. `prompts`, `seed` and `wordings` are those that `sharegpt`
    was made with; UserError where they are not.
    """
    seen, unseen = taught(prompts, wordings, constraint=False)[0], read_prompts(prompts).unseen
    with replacing(out) as temporary, writing_entries(temporary) as add:
        for entry in read_json(sharegpt):
            id, tag = entry["id"], entry["tag"]
            if tag not in unseen:
                continue
            old, new = choose(seen, seed, id, tag), choose(unseen, seed, id, tag)
            user, *rest = entry["messages"]
            if old not in user["content"]:
                why = f"sample {id} was not asked as {prompts} says; write it again with this file"
                raise UserError(f"{sharegpt}: {why}.")
            add(entry | {"messages": [user | {"content": user["content"].replace(old, new, 1)}, *rest]})
