"""What prediction promises, whichever program answers: one JSON line for each sample of a chunk, finished ones kept.

The lines wait in a hidden file beside `out`, flushed as they come; interrupted, a rerun goes on from them.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from radtune import files
from radtune.digest import digest
from radtune.resize import IMAGE, resizes

Record = dict[str, Any]  # a sample of a ShareGPT file
Answer = dict[str, Any]  # prediction, tokens, stopped, seconds


def answer_all(
    answers: Callable[[list[Record]], Iterator[list[tuple[Record, Answer]]]],
    sharegpt: Path,
    media_dir: Path,
    out: Path,
    *,
    chunk: str,
    some: int | None = None,
    settings: list[Any],
    models: list[Path],
) -> None:
    """Write one JSON line for each sample, or for `some` evenly spread, of the chunk's, in the order of `sharegpt`.

    A line holds id, tag, group, image, prompt, prediction, reference, seconds (its share of its batch's), tokens (new
    ones, without the end token), stopped (false where the answer was cut at the most tokens) and what the sample has of
    cases. `answers` is asked for those that a killed run has left, where it had the same `settings`, `models`, samples
    and images.
    """
    records = files.read_json(sharegpt)
    if some is not None and some < len(records):
        records = [records[n * len(records) // some] for n in range(some)]
    records = chosen(records, chunk)
    for (id, tag), count in Counter(map(_name, records)).items():
        if count > 1:
            raise files.UserError(f"{sharegpt}: sample {id} stands there {count} times under {tag}; keep one of them.")
    images = sorted({image for record in records for image in record["images"]})
    for image in images:
        if not (media_dir / image).is_file():
            raise files.UserError(f"{media_dir / image}: no such image, but {sharegpt} names it.")
    for record in records:
        if prompt(record).count(IMAGE) != len(record["images"]):
            raise files.UserError(f"sample {record['id']}: {IMAGE} must stand once in its prompt for each image.")
    key = digest(settings, [sharegpt, *models, *(media_dir / image for image in images)])

    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    with partial.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a job orphaned by a killed workflow may still be at it
        done = _read_partial(file, key)
        waiting = [record for record in records if _name(record) not in done]
        with tqdm(total=len(records), initial=len(done), desc=out.stem, unit="sample", disable=None) as bar:
            for batch in answers(waiting) if waiting else ():
                for record, answer in batch:
                    done[_name(record)] = _row(record, answer)
                    file.write(json.dumps(done[_name(record)], ensure_ascii=False).encode() + b"\n")
                file.flush()
                bar.update(len(batch))
        files.write_jsonl(out, (done[_name(record)] for record in records))
    partial.unlink(missing_ok=True)


def chosen(records: list[Record], chunk: str) -> list[Record]:
    """The records of `chunk`, such as 2-of-4: the second quarter."""
    found = re.fullmatch(r"(\d+)-of-(\d+)", chunk)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise files.UserError(f"chunk {chunk}: must be one of 1-of-N to N-of-N.")
    return records[len(records) * (number - 1) // count : len(records) * number // count]


def prompt(record: Record) -> str:
    """Every turn but the last, in template qwen3_vl_nothink, and the answer's beginning."""
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in record["messages"][:-1])
    return f"{turns}<|im_start|>assistant\n"


def fitted(path: Path, most: int, least: int, *, blank: bool = False) -> Any:
    """fit() of a file. `blank`: a black one of the same size."""
    from PIL import Image

    with Image.open(path) as image:
        picture = fit(image, most, least)
    return Image.new("RGB", picture.size) if blank else picture


def fit(image: Any, most: int, least: int) -> Any:
    """An RGB image of a PIL image, resized as in training before the processor's own resize."""
    for size in resizes(image.width, image.height, most, least):
        image = image.resize(size)
    return image.convert("RGB")


def end_tokens(tokenizer: Any) -> list[int]:
    """<|im_end|>, which ends an answer, and <|endoftext|>, which pads a batch."""
    found: list[int] = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    return found


def _name(record: Record) -> tuple[str, str]:
    return record["id"], record["tag"]


def _row(record: Record, answer: dict[str, Any]) -> dict[str, Any]:
    *_, question, reference = record["messages"]
    return {
        "id": record["id"],
        "tag": record["tag"],
        "group": record["group"],
        "image": record["images"][0] if record["images"] else None,
        "prompt": question["content"].replace(IMAGE, ""),
        "prediction": answer["prediction"],
        "reference": reference["content"],
        "seconds": answer["seconds"],
        "tokens": answer["tokens"],
        "stopped": answer["stopped"],
        **({"cases": record["cases"]} if "cases" in record else {}),
    }


def _read_partial(file: IO[bytes], key: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The finished rows by id and tag; leaves the file cut to its whole lines, or new where its inputs were others.

    The first line holds the inputs' digest; a kill can tear the last one.
    """
    file.seek(0)
    content = file.read()
    content = content[: content.rfind(b"\n") + 1]
    header, *lines = content.splitlines() or [b""]
    if header != key.encode():
        content, lines = key.encode() + b"\n", []
        file.truncate(0)
        file.write(content)
        file.flush()
    file.truncate(len(content))
    return {_name(row): row for row in map(json.loads, lines)}
