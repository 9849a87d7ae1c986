"""Import a folder of DICOM files as parquet of the data set's own shape; patient identifiers never reach an output.

    radtune import-dicom FOLDER --out DIR --window brain --texts texts.csv

Out: DIR/train-*.parquet (id, image, question, text, group), so that `dataset: {source: local, path: DIR}` runs the
workflow on it, and DIR/quarantine.jsonl: {file, reason, detail} of each DICOM file that gives no image.

Of the header, a file's transfer syntax and size are written, in quarantine.jsonl, and nothing else. `id` and `group`
are digests of UIDs, never of a patient's id, which is short enough to be guessed. They are the same in every run; who
holds the files can compute them too, unless --salt adds a secret. A file in quarantine is named by its place in the
sorted list and by its content's digest; relative names, which may hold a patient's, go to the terminal (stderr) alone.
Not looked for: text in the pixels where BurnedInAnnotation does not say YES (kinds of images that often show it are
counted for a look), a face that a whole series would show, names in texts.csv.

texts.csv, in UTF-8: one of the columns `file` (relative to FOLDER), `sop_instance_uid` or `series_instance_uid` (all of
its images), and `question` (a tag), `text`. Each text gives a row for each image that it names, frames included. An
image without a text gets one row of the tag CAPTION and null text.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID
from tqdm import tqdm

from radtune.data.answers import tag_of
from radtune.data.dicom_pixels import ASSUMED_BRAIN, ASSUMED_RANGE, NOT_HU, PRESETS, read_dicom, read_frames
from radtune.data.groups import group_rows
from radtune.files import UserError, replacing, write_jsonl
from radtune.reasons import Reason, Unusable
from radtune.shards import dataset_schema

SCHEMA = dataset_schema("group")
KEYS = ("file", "sop_instance_uid", "series_instance_uid")
ROW_GROUP = 100
# what stands where a patient's id was, after an anonymiser: it joins nothing
_PLACEHOLDER = re.compile(r"0*|x*|anon[a-z]*|unknown|none|null|na|removed|deleted|withheld|deidentified|patient|test")


# ultrasound, endoscopy, photographs, documents and screenshots
_TEXT_IN_PIXELS = ("US", "IVUS", "ES", "GM", "XC", "DOC", "OT", "SC")


class File(NamedTuple):
    """A DICOM file: its place among all files, and what of its header decides about id, group and texts."""

    number: int
    name: str  # relative to the folder
    instance: str  # SOPInstanceUID, else a digest of the content
    series: str  # SeriesInstanceUID, else StudyInstanceUID, else `instance`
    patient: str  # PatientID and birth date; `instance`, which joins nothing, where the id is a placeholder


class Text(NamedTuple):
    line: int
    key: str
    question: str
    text: str


def import_dicom(
    folder: Path,
    *,
    out: Path,
    window: str = "header",
    texts: Path | None = None,
    shard_rows: int = 4000,
    salt: str = "",
) -> None:
    """Write folder `out`. `window`: header, or, for what is in HU, brain, subdural, stroke, bone or soft (PRESETS).
    `texts`: FOLDER/texts.csv where it is there. `salt`: a word to keep secret, so that nobody else can compute the ids.

    The same files give the same bytes. Series of one patient (PatientID and birth date) share a group.
    Raises UserError.
    """
    if window != "header" and window not in PRESETS:
        raise UserError(f"--window {window} is unknown; give header or one of {', '.join(PRESETS)}.")
    if shard_rows < 1:
        raise UserError(f"--shard-rows {shard_rows} makes no shard; give 1 or more.")
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name the one that holds the DICOM files.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty; name a new folder or remove it.")
    if texts is None and (folder / "texts.csv").is_file():
        texts = folder / "texts.csv"
    column, said = _read_texts(texts) if texts else ("file", [])
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if folder / name != texts]
    lost: list[dict[str, str]] = []
    seen: Counter[str] = Counter()
    cv2.setNumThreads(1)  # one process a core, as in the stages that follow
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote the header
    with warnings.catch_warnings(), pydicom.config.disable_value_validation(), replacing(out) as temporary:
        warnings.simplefilter("ignore")
        temporary.mkdir()
        files = _look_at_all(folder, names, lost)
        if not files and not lost:
            raise UserError(f"{folder} holds no DICOM file ({len(names)} other files); name the one that does.")
        seen["skipped"] = len(names) - len(files) - len(lost)
        answers = _match(files, said, texts, column)
        _write_shards(temporary, _rows(folder, files, answers, window, salt, lost, seen), shard_rows)
        assert seen["read"] + len(lost) + seen["skipped"] == len(names)
        if not seen["read"]:
            raise UserError(f"{folder} gives no image: {_count(lost)}.")
        write_jsonl(temporary / "quarantine.jsonl", sorted(lost, key=lambda entry: entry["file"]))
    print(_summary(seen, lost, len(names), len(said)))


def _look_at_all(folder: Path, names: list[str], lost: list[dict[str, str]]) -> list[File]:
    """The DICOM files among `names`; one whose header cannot be read is added to `lost`."""
    files = []
    for number, name in enumerate(tqdm(names, desc="read headers", unit="file", disable=None)):
        try:
            header = read_dicom(folder / name, pixels=False)
            if header is not None:
                files.append(_look(number, folder, name, header))
        except Unusable as error:
            _lose(lost, number, folder, name, error)
    return files


def _look(number: int, folder: Path, name: str, header: Dataset) -> File:
    try:
        instance = _word(header, "SOPInstanceUID") or _content(folder / name)
        series = _word(header, "SeriesInstanceUID") or _word(header, "StudyInstanceUID") or instance
        patient = _word(header, "PatientID")
        if _PLACEHOLDER.fullmatch(re.sub(r"[\W_]", "", patient).casefold()):
            patient = f"instance {instance}"
        else:
            patient = f"patient {patient} {_word(header, 'PatientBirthDate')}"
    except Exception as error:
        raise Unusable(Reason.DICOM_UNREADABLE) from error
    return File(number, name, instance, series, patient)


def _word(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip("\0 ")


def _rows(
    folder: Path,
    files: list[File],
    answers: dict[int, list[Text]],
    window: str,
    salt: str,
    lost: list[dict[str, str]],
    seen: Counter[str],
) -> Iterator[dict[str, Any]]:
    """The rows of each file that decodes in full, the others to `lost`; both counted."""
    series, patients = pa.array([_digest(salt, file.series) for file in files]), pa.array([f.patient for f in files])
    groups = group_rows(series, patients).to_pylist()
    done: set[str] = set()
    used: set[int] = set()
    groups_read: set[str] = set()
    for file, group in zip(tqdm(files, desc="import", unit="file", disable=None), groups, strict=True):
        header = None
        try:
            if file.instance in done:
                raise Unusable(Reason.INSTANCE_REPEATED)
            header = read_dicom(folder / file.name)
            frames = list(_encoded(header, window))
        except Unusable as error:
            _lose(lost, file.number, folder, file.name, error, header)
            continue
        done.add(file.instance)
        texts = answers.get(file.number, [])
        used.update(text.line for text in texts)
        seen["may show text"] += len(frames) if _may_show_text(header) else 0
        groups_read.add(group)
        said: list[tuple[str, str | None]] = [(f"<{text.question}>", text.text) for text in texts]
        for n, (png, note) in enumerate(frames, 1):
            seen.update({note: 1, "images": 1, "without text": not texts})
            id = _digest(salt, file.instance, str(n))[:32]
            for question, answer in said or [("<CAPTION>", None)]:
                image = {"bytes": png, "path": f"{id}.png"}
                yield {"id": id, "image": image, "question": question, "text": answer, "group": group}
        seen["read"] += 1
        del header, frames
    seen["texts used"], seen["groups"] = len(used), len(groups_read)


def _may_show_text(header: Dataset | None) -> bool:
    """A kind of image that often has a name in its pixels, and a header that does not rule it out."""
    if header is None or _word(header, "BurnedInAnnotation").upper() == "NO":
        return False
    captured = UID(_word(header, "SOPClassUID")).name.find("Secondary Capture") >= 0
    return captured or _word(header, "Modality") in _TEXT_IN_PIXELS


def _encoded(header: Dataset | None, window: str) -> Iterator[tuple[bytes, str]]:
    for grey, note in read_frames(header if header is not None else Dataset(), window):
        yield cv2.imencode(".png", grey)[1].tobytes(), note


def _lose(
    lost: list[dict[str, str]], number: int, folder: Path, name: str, error: Unusable, header: Dataset | None = None
) -> None:
    """Put a file into quarantine, with nothing of an error's message or the header's free text: names may be in it."""
    detail = ", ".join(([type(error.__cause__).__name__] if error.__cause__ else []) + _describe(header))
    lost.append({"file": f"{number:06d}-{_content(folder / name)[:16]}", "reason": error.reason, "detail": detail})
    tqdm.write(f"{name}: {error}" + (f" ({detail})" if detail else ""), file=sys.stderr)


def _describe(header: Dataset | None) -> list[str]:
    """The transfer syntax, if it is one of the standard's, and the size, if it is numbers."""
    try:
        syntax = UID(str(header.file_meta.TransferSyntaxUID)) if header is not None else UID("")
        names = [syntax.name] if syntax.is_transfer_syntax and not syntax.is_private else []
        size = (header.Rows, header.Columns) if header is not None else ()
    except Exception:
        return []
    return names + ([f"{size[0]} x {size[1]}"] if size and all(type(side) is int for side in size) else [])


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def _write_shards(folder: Path, rows: Iterator[dict[str, Any]], shard_rows: int) -> None:
    for number in count():
        first = next(rows, None)
        if first is None:
            return
        shard = chain([first], islice(rows, shard_rows - 1))
        with pq.ParquetWriter(folder / f"train-{number:05d}.parquet", SCHEMA) as writer:
            while batch := list(islice(shard, ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))


def _read_texts(path: Path) -> tuple[str, list[Text]]:
    """The column that names the image, and the texts, each with its tag in front. Raises UserError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            keys = [column for column in columns if column in KEYS]
            unknown = [column for column in columns if column not in (*KEYS, "question", "text")]
            if len(keys) != 1 or unknown or len(set(columns)) != 3 or len(columns) != 3:
                raise UserError(
                    f"{path}, row 1: its columns must be question, text and one of {', '.join(KEYS)}; "
                    f"they are {', '.join(columns) or 'missing'}."
                )
            return keys[0], [_text(row, path, reader.line_num, keys[0]) for row in reader]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check --texts.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8 (byte {error.start}); save it as CSV UTF-8.") from None
    except csv.Error as error:
        raise UserError(
            f"{path}, row {reader.reader.line_num}: {error}; quote the text, and double quotes in it."
        ) from None


def _text(row: dict[str | Any, str | Any], path: Path, line: int, key: str) -> Text:
    if None in row or None in row.values():
        raise UserError(f"{path}, row {line}: it has more or fewer fields than row 1; quote a text that holds commas.")
    for column in (key, "text"):
        if not row[column].strip():
            raise UserError(f"{path}, row {line}, column {column}: it is empty; fill it or remove the row.")
    try:
        tag = tag_of(row["question"])
    except Unusable as error:
        raise UserError(f"{path}, row {line}, column question: {error}") from None
    text = row["text"] if f"<{tag}>" in row["text"] else f"<{tag}>{row['text']}"
    name = row[key].strip()
    return Text(line, name.replace("\\", "/").removeprefix("./") if key == "file" else name, tag, text)


def _match(files: list[File], texts: list[Text], path: Path | None, column: str) -> dict[int, list[Text]]:
    """The texts of each file's number. Raises UserError where a text names no image."""
    field = {"file": "name", "sop_instance_uid": "instance", "series_instance_uid": "series"}[column]
    named: dict[str, list[int]] = defaultdict(list)
    for file in files:
        named[getattr(file, field)].append(file.number)
    answers: dict[int, list[Text]] = defaultdict(list)
    for text in texts:
        if text.key not in named:
            raise UserError(f"{path}, row {text.line}, column {column}: it names no DICOM file of the folder.")
        for number in named[text.key]:
            answers[number].append(text)
    return answers


def _count(lost: list[dict[str, str]]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in Counter(entry["reason"] for entry in lost).most_common())


def _summary(seen: Counter[str], lost: list[dict[str, str]], files: int, texts: int) -> str:
    lines = [
        f"{files} files: {seen['read']} read, {len(lost)} quarantined{f' ({_count(lost)})' if lost else ''}, "
        f"{seen['skipped']} skipped (no DICOM, or a DICOMDIR).",
        f"{seen['images']} images in {seen['groups']} groups.",
    ]
    lines += [f"{seen[note]} images {note}." for note in (ASSUMED_BRAIN, ASSUMED_RANGE, NOT_HU) if seen[note]]
    if seen["may show text"]:
        lines.append(
            f"{seen['may show text']} images are of kinds that often show a name (ultrasound, captured screens), and "
            "their headers do not rule it out: look at them."
        )
    if seen["without text"]:
        lines.append(f"{seen['without text']} images have no text; the workflow will quarantine them as text_missing.")
    if seen["texts used"] < texts:
        lines.append(f"{texts - seen['texts used']} texts are lost with their quarantined files.")
    return "\n".join(lines)
