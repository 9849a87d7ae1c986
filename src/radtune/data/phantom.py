"""Make data sets of drawn head-CT phantoms: free pictures whose truth is known, in the shape of the real data set.

Call it as `radtune draw-phantoms --out DIR --images N --seed S --shards K`. The result is for tests and demos, it is no
medical data: the pictures are drawings (phantom_draw) and the words follow from the drawing (phantom_text).
"""

from __future__ import annotations

import ast
import hashlib
import io
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from tqdm import tqdm

from radtune.data.phantom_draw import CANVAS, Slice, draw, draw_patient
from radtune.data.phantom_text import PRACTICE_PROMPTS, TAGS, Facts, state_facts, write_practice_answers, write_texts
from radtune.files import replacing, write_json, write_jsonl
from radtune.shards import SCHEMA

GREEN = (20, 240, 20)
SLICES_PER_PATIENT = 6
DATASET, PRACTICE = 0, 1  # seed streams: no patient of one is ever in the other
PRACTICE_SIZE = (CANVAS // 2, CANVAS // 2)  # many, so small: the noise of a whole canvas costs most of the time
USUAL = ((CANVAS, CANVAS), ("RGB", "JPEG"))  # (width, height), (mode, file format)
UNUSUAL = [
    pair
    for pair in product(
        [(CANVAS, CANVAS), (384, 512), (600, 480), (256, 256)],
        [("RGB", "JPEG"), ("L", "JPEG"), ("L", "PNG"), ("RGBA", "PNG")],
    )
    if pair != USUAL
]
UNUSUAL_SHARE, DEFECT_SHARE, EVAL_SHARE = 0.08, 0.02, 0.05
DEFECTS = [
    "truncated-jpeg",
    "empty-bytes",
    "null-image",
    "json-unparsable",
    "json-missing-key",
    "unknown-tag",
    "empty-answer",
    "null-text",
    "loc-inverted",
]


class Phantom(NamedTuple):
    """One encoded image and what is true of it."""

    id: str
    patient: int
    drawn: Slice
    facts: Facts
    mode: str
    format: str
    data: bytes
    rng: np.random.Generator  # for its texts


def write_dataset(out: Path, images: int, seed: int, shards: int) -> None:
    """Write folder `out`: train, validation and test parquet as in the real data set, and truth.jsonl.

    Six rows an image, one a tag; rows are shuffled and split one by one, so the splits share images, as the real ones
    do. 2 % defective rows come on top. truth.jsonl has one line per image (boxes x1, y1, x2, y2 in px of that image)
    and per defective row. The same arguments give the same bytes.
    """
    rows: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    sound: list[tuple[str, bytes, dict[str, str]]] = []
    for phantom in _make(images, seed, DATASET, UNUSUAL_SHARE):
        texts = write_texts(phantom.facts, phantom.rng)
        image = {"bytes": phantom.data, "path": f"{phantom.id}.{_suffix(phantom.format)}"}
        rows += [{"id": phantom.id, "image": image, "question": f"<{tag}>", "text": texts[tag]} for tag in TAGS]
        truth.append(_truth(phantom))
        if phantom.format == "JPEG":
            sound.append((phantom.id, phantom.data, texts))
    rng = np.random.default_rng([seed, DATASET])
    for n in range(round(DEFECT_SHARE * len(rows)) if sound else 0):
        name = DEFECTS[n % len(DEFECTS)]
        source, data, texts = sound[int(rng.integers(len(sound)))]
        row = {"id": _uuid(rng), **_spoil(name, data, texts)}
        rows.append(row)
        truth.append(dict.fromkeys(truth[0]) | {"id": row["id"], "defect": name, "copy_of": source})
    rows = [rows[i] for i in rng.permutation(len(rows))]
    evaluated = max(1, round(EVAL_SHARE * len(rows)))
    with replacing(out) as folder:
        folder.mkdir()
        _write_rows(folder / "validation-00000-of-00001.parquet", rows[:evaluated])
        _write_rows(folder / "test-00000-of-00001.parquet", rows[evaluated : 2 * evaluated])
        cuts = np.linspace(2 * evaluated, len(rows), shards + 1).astype(int)
        for i in range(shards):
            _write_rows(folder / f"train-{i:05d}-of-{shards:05d}.parquet", rows[cuts[i] : cuts[i + 1]])
        write_jsonl(folder / "truth.jsonl", truth)


def write_practice(out: Path, images: int, seed: int) -> None:
    """Write folder `out`: other phantoms, asked and answered in other words, to teach a tiny base model to see.

    practice.parquet has one row an image; images.parquet its shard, row and sha256; train.json is ShareGPT with one
    record of three questions an image, whose picture is `practice/{sha256}.jpg`, and its `facts` in plain words;
    dataset_info.json names it for LLaMA-Factory.
    """
    rows, index, records = [], [], []
    for i, phantom in enumerate(islice(_with_mirror(_make(-(-images // 2), seed, PRACTICE, 0, PRACTICE_SIZE)), images)):
        sha256 = hashlib.sha256(phantom.data).hexdigest()
        answers = write_practice_answers(phantom.facts, phantom.rng)
        image = {"bytes": phantom.data, "path": f"{phantom.id}.jpg"}
        text = f"<PRACTICE>{answers[PRACTICE_PROMPTS[0]]}"
        rows.append({"id": phantom.id, "image": image, "question": "<PRACTICE>", "text": text})
        index.append({"shard": "practice", "row": i, "image_sha256": sha256})
        first, *others = PRACTICE_PROMPTS
        chosen = [(prompt, answers[prompt]) for prompt in (first, *phantom.rng.permutation(others)[:2])]
        turns = [turn for prompt, answer in chosen for turn in (("user", str(prompt)), ("assistant", answer))]
        messages = [{"role": role, "content": content} for role, content in turns]
        messages[0]["content"] = f"<image>{messages[0]['content']}"
        facts = {name: getattr(phantom.facts, name) for name in ("horizontal", "vertical", "density", "level", "size")}
        image_file = f"practice/{sha256}.jpg"
        records.append({"id": phantom.id, "facts": facts, "messages": messages, "images": [image_file]})
    with replacing(out) as folder:
        folder.mkdir()
        _write_rows(folder / "practice.parquet", rows)
        schema = pa.schema([("shard", pa.string()), ("row", pa.int64()), ("image_sha256", pa.string())])
        pq.write_table(pa.Table.from_pylist(index, schema=schema), folder / "images.parquet")
        write_json(folder / "train.json", records)
        tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
        columns = {"messages": "messages", "images": "images"}
        practice = {"file_name": "train.json", "formatting": "sharegpt", "columns": columns, "tags": tags}
        write_json(folder / "dataset_info.json", {"practice": practice})


def encode(drawn: Slice, mode: str = "RGB", file_format: str = "JPEG") -> bytes:
    """Burn the green rectangle (3 px, inward from the box) into the slice and encode it in a PIL mode and format."""
    image = Image.fromarray(drawn.pixels).convert("RGB")
    ImageDraw.Draw(image).rectangle(drawn.box, outline=GREEN, width=3)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, file_format, **({"quality": 92} if file_format == "JPEG" else {}))
    return buffer.getvalue()


def _make(
    images: int, seed: int, stream: int, unusual_share: float, usual_size: tuple[int, int] = USUAL[0]
) -> Iterator[Phantom]:
    """Yield encoded phantoms, several neighbouring slices a patient, with a progress bar."""
    for i in tqdm(range(images), desc="draw phantoms", unit="image", disable=None):
        number, k = divmod(i, SLICES_PER_PATIENT)
        patient_rng = np.random.default_rng([seed, stream, number])
        patient = draw_patient(patient_rng)
        middle, step = patient_rng.uniform(0, 1), patient_rng.uniform(0.03, 0.12)
        level = abs(middle + (k - SLICES_PER_PATIENT / 2) * step)
        level = min(level, 2 - level)  # turned back at either end, so that every level is as likely
        rng = np.random.default_rng([seed, stream, number, k])
        unusual = rng.random() < unusual_share
        size, (mode, file_format) = UNUSUAL[int(rng.integers(len(UNUSUAL)))] if unusual else (usual_size, USUAL[1])
        drawn = draw(patient, level, rng, size)
        data = encode(drawn, mode, file_format)
        yield Phantom(_uuid(rng), number, drawn, state_facts(drawn), mode, file_format, data, rng)


def _with_mirror(phantoms: Iterable[Phantom]) -> Iterator[Phantom]:
    """Each phantom and its mirror image: a second picture at a tenth of the cost."""
    for phantom in phantoms:
        yield phantom
        x1, y1, x2, y2 = phantom.drawn.box
        last = phantom.drawn.pixels.shape[1] - 1
        pixels = np.ascontiguousarray(phantom.drawn.pixels[:, ::-1])
        drawn = replace(phantom.drawn, pixels=pixels, box=(last - x2, y1, last - x1, y2))
        yield phantom._replace(id=_uuid(phantom.rng), drawn=drawn, facts=state_facts(drawn), data=encode(drawn))


def _truth(phantom: Phantom) -> dict[str, Any]:
    facts = phantom.facts
    height, width = phantom.drawn.pixels.shape
    return {
        "id": phantom.id,
        "patient": phantom.patient,
        "level": round(phantom.drawn.level, 4),
        "level_name": facts.level,
        "box": list(facts.box),
        "horizontal": facts.horizontal,
        "vertical": facts.vertical,
        "side": facts.side,
        "area_percent": facts.percent,
        "size": facts.size,
        "density": facts.density,
        "rim": facts.rim,
        "width": width,
        "height": height,
        "mode": phantom.mode,
        "format": phantom.format,
        "image_sha256": hashlib.sha256(phantom.data).hexdigest(),
        "defect": None,
        "copy_of": None,
    }


def _spoil(name: str, data: bytes, texts: dict[str, str]) -> dict[str, Any]:
    """A row's image, question and text with one defect of DEFECTS."""
    tag = {"json": "JSON_RECORD", "loc": "DETECT_REGION_LOC"}.get(name.split("-")[0], "CAPTION")
    text: str | None = texts[tag]
    bytes_: bytes | None = data
    if name == "truncated-jpeg":
        bytes_ = data[: len(data) // 3]
    elif name == "empty-bytes":
        bytes_ = b""
    elif name == "null-image":
        bytes_ = None
    elif name == "json-unparsable":
        text = texts[tag][: len(texts[tag]) // 2]
    elif name == "json-missing-key":
        record = ast.literal_eval(texts[tag].removeprefix(f"<{tag}>"))
        del record["observation"]
        text = f"<{tag}>{record}"
    elif name == "unknown-tag":
        tag, text = "SEGMENT", texts[tag].replace("<CAPTION>", "<SEGMENT>")
    elif name == "empty-answer":
        text = f"<{tag}>  \n"
    elif name == "null-text":
        text = None
    elif name == "loc-inverted":
        label, x1, y1, x2, y2 = texts[tag].split("<loc_")
        text = "<loc_".join([label, x2, y1, x1, y2])
    image = None if bytes_ is None else {"bytes": bytes_, "path": None}
    return {"image": image, "question": f"<{tag}>", "text": text}


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows in row groups of 100, one at a time: the images are held once, not once a row."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for start in range(0, len(rows), 100):
            writer.write_table(pa.Table.from_pylist(list(rows[start : start + 100]), schema=SCHEMA))
        if not rows:
            writer.write_table(SCHEMA.empty_table())


def _suffix(file_format: str) -> str:
    return "jpg" if file_format == "JPEG" else "png"


def _uuid(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))
