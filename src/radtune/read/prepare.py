"""Files of any kind to what the model is asked: pictures prepared as for training, and a question for each task.

    radtune prepare-reading PATH... --train sharegpt/NAME/train.json --size 448 --out FOLDER

Out: FOLDER/images/ID.jpg, the enhanced pictures; originals/ID.png, the pixels that they were made from; questions.json,
ShareGPT with empty answers; files.json: what became of each file, in the order of PATHs, series by their own numbers.

ID is a digest of the picture. Of a DICOM header nothing is written, nor is a DICOM file's name, which may be a
patient's: such a file, and one that cannot be read, is named by its place among all and its content's digest.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import cv2
import pydicom
from PIL import Image
from tqdm import tqdm

from radtune.data.dicom_pixels import MAX_BYTES, PRESETS, read_dicom, read_frames
from radtune.files import UserError, replacing, write_json
from radtune.images import overlay, read
from radtune.images.enhance import Recipe, render
from radtune.read.run import wordings
from radtune.reasons import Reason, Unusable
from radtune.resize import IMAGE

# how a picture file begins: others are not tried, as some of Pillow's readers start programs
PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"II*\0", b"MM\0*", b"BM", b"GIF8", b"RIFF")
PACKAGES = ("radtune", "numpy", "pillow", "opencv-python-headless", "pydicom", "torch", "transformers", "peft")

Item = dict[str, Any]


def prepare(
    *paths: Path,
    out: Path,
    train: Path,
    tasks: list[str] | None = None,
    window: str = "header",
    size: int,
    clip_limit: float = 0,
    tile_grid: int = 8,
    format: Literal["jpeg", "png"] = "jpeg",
    quality: int = 95,
    burned_in_box: Literal["keep", "inpaint"] = "keep",
) -> dict[str, Path]:
    """Write folder `out`. `window`: how DICOM is shown, as in import-dicom. Which file is which that has no name there.

    Raises UserError where nothing can be read.
    """
    if window != "header" and window not in PRESETS:
        raise UserError(f"--window {window} is unknown; give header or one of {', '.join(PRESETS)}.")
    asked = wordings(train, tasks)
    recipe = Recipe(size, clip_limit, tile_grid, format, quality, burned_in_box)
    read.set_up_process()
    images: list[Item] = []
    lost: list[Item] = []
    unnamed: dict[str, Path] = {}
    with quiet(), replacing(out) as folder:
        for name in ("images", "originals"):
            (folder / name).mkdir(parents=True)
        found = _ordered(_listed(paths))
        for number, (path, name, series) in enumerate(tqdm(found, desc="prepare", unit="file", disable=None)):
            hidden = f"{number:06d}-{_content(path)[:16]}"
            try:
                frames = list(pictures(path, window))
                prepared = [_prepare(data, recipe, folder) for data, _ in frames]
            except Unusable as error:
                lost.append({"file": hidden, "reason": str(error.reason), "sentence": error.reason.sentence})
                unnamed[hidden] = path
                continue
            dicom = frames[0][1]
            if dicom:
                unnamed[hidden] = path
            about = {"file": hidden if dicom else name, "series": series, "frames": len(frames)}
            images += [about | {"frame": n} | of for n, of in enumerate(prepared, 1)]
        if not images:
            raise UserError(f"none of {len(found)} files can be read: {sorted({one['sentence'] for one in lost})[0]}")
        once = {one["id"]: one for one in images}.values()  # a picture that two files hold is asked about once
        write_json(folder / "questions.json", [_question(one, tag, asked[tag]) for one in once for tag in asked])
        told = {"images": images, "unreadable": lost, "window": window, "versions": versions()}
        write_json(folder / "files.json", told)
    return unnamed


def pictures(path: Path, window: str) -> Iterator[tuple[bytes, bool]]:
    """The encoded pictures that a file holds, and whether it is DICOM; raises Unusable.

    A frame of DICOM becomes PNG, as in import-dicom, so that from there on all is what training does.
    """
    header = read_dicom(path)
    if header is None:
        with path.open("rb") as file:
            if not file.peek(16).startswith(PICTURES):
                raise Unusable(Reason.IMAGE_UNREADABLE)
            if path.stat().st_size > MAX_BYTES:
                raise Unusable(Reason.IMAGE_TOO_LARGE)
            yield file.read(), False
        return
    for grey, _ in read_frames(header, window):
        yield cv2.imencode(".png", grey)[1].tobytes(), True


def enhanced(data: bytes, recipe: Recipe) -> tuple[read.Pixels, bytes, dict[str, int]]:
    """The pixels of an encoded picture, the picture that the model sees, and its letterbox, as in images.enhance."""
    pixels = read.decode(data).pixels
    found = overlay.find_box(pixels) if recipe.burned_in_box == "inpaint" and pixels.ndim == 3 else None
    return pixels, *render(pixels, read.to_grey(pixels), found, recipe)


def versions() -> dict[str, str]:
    """Of the packages that have a part in a reading, those that are installed here."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings, which quote the header."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def _listed(paths: tuple[Path, ...]) -> list[tuple[Path, str]]:
    """Every file, folders with all that lies in them, and its name relative to the folder that was given."""
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            found += [(file, file.relative_to(path).as_posix()) for file in inside]
        elif path.is_file():
            found.append((path, path.name))
        else:
            raise UserError(f"{path} is no file and no folder.")
    if not found:
        raise UserError("there is no file to read; name an image, a DICOM file or a folder of them.")
    return found


def _ordered(found: list[tuple[Path, str]]) -> list[tuple[Path, str, int | None]]:
    """As listed, but the files of a DICOM series together where its first one is, by instance number; with the number
    of their series, counted from 1.
    """
    series: dict[str, int] = {}
    keyed = []
    for place, (path, name) in enumerate(found):
        uid, instance = _of_series(path)
        number = series.setdefault(uid, len(series) + 1) if uid else None
        keyed.append((path, name, number, instance, place))
    first = {number: place for _, _, number, _, place in reversed(keyed) if number}
    keyed.sort(key=lambda one: (first[one[2]] if one[2] else one[4], one[3], one[4]))
    return [(path, name, number) for path, name, number, _, _ in keyed]


def _of_series(path: Path) -> tuple[str, int]:
    """Series UID and instance number, "" and 0 where there are none."""
    try:
        header = read_dicom(path, pixels=False)
        if header is None:
            return "", 0
        return str(header.get("SeriesInstanceUID") or "").strip("\0 "), int(header.get("InstanceNumber") or 0)
    except (Unusable, TypeError, ValueError):
        return "", 0


def _prepare(data: bytes, recipe: Recipe, folder: Path) -> Item:
    """Write a picture and its original; id, the enhanced one's name, and its letterbox."""
    pixels, picture, letterbox = enhanced(data, recipe)
    id = hashlib.sha256(data).hexdigest()[:32]
    (folder / "images" / f"{id}{recipe.suffix}").write_bytes(picture)
    Image.fromarray(pixels).save(folder / "originals" / f"{id}.png", compress_level=1)
    return {"id": id, "image": f"images/{id}{recipe.suffix}", "letterbox": letterbox}


def _question(image: Item, tag: str, wording: str) -> Item:
    turns = [{"role": "user", "content": f"{IMAGE}{wording}"}, {"role": "assistant", "content": ""}]
    return {"id": image["id"], "tag": tag, "group": image["id"], "messages": turns, "images": [image["image"]]}


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"
