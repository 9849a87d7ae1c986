"""Answers to new images as JSON, pictures with their boxes and a page.

    radtune write-reading --prepared FOLDER/prepared --predictions FOLDER/predictions.jsonl --config RUN/config.yaml \\
        --experiment lora --evaluation RUN/evaluate/lora/test.json --out FOLDER

Out: FOLDER/reading.json, by reading.schema.yaml; FOLDER/pictures/ID.jpg, each image in its own size with the box that
was answered; FOLDER/index.html.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from PIL import Image, ImageDraw

from radtune.evaluate import boxes, records
from radtune.files import read_json, read_jsonl, replacing, write_json, write_text
from radtune.frames import Letterbox
from radtune.read.run import scores
from radtune.report.reading import page

NOTICE = "Research use; not for diagnosis."
SCHEMA = Path(__file__).with_name("reading.schema.yaml")
BOX = "#e69f00"  # as the report draws predictions


def write_reading(
    prepared: Path,
    predictions: list[Path],
    config: Path,
    out: Path,
    *,
    experiment: str,
    evaluation: Path | None = None,
    similar: Path | None = None,
    media_dir: Path | None = None,
) -> None:
    """Write into folder `out`. `predictions`: of prepared/questions.json, in chunks or whole. `evaluation`: the
    experiment's scores on the test split, for how sure one can be. `similar`: the folder of similar_cases(), whose
    pictures lie under `media_dir`.
    """
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    told = read_json(prepared / "files.json")
    rows = [row for path in predictions for row in read_jsonl(path)]
    found = reading(told, rows, settings, experiment, evaluation, read_json(similar / "cases.json") if similar else {})
    with replacing(out / "pictures") as folder:
        folder.mkdir()
        for image in found["images"]:
            draw(prepared / "originals" / f"{image['id']}.png", image["box"]).save(
                folder / f"{image['id']}.jpg", quality=92, subsampling=0
            )
    write_json(out / "reading.json", found)
    write_text(out / "index.html", page(found, prepared / "originals", media_dir))


def reading(
    told: dict[str, Any],
    rows: list[dict[str, Any]],
    settings: dict[str, Any],
    experiment: str,
    evaluation: Path | None,
    similar: dict[str, Any],
) -> dict[str, Any]:
    """What reading.json holds, checked against its schema. `told`: files.json; `rows`: lines of predictions;
    `settings`: the run's config; `similar`: cases.json, or empty.
    """
    of = settings["experiments"][experiment]
    answers: dict[str, dict[str, Any]] = {}
    for row in rows:
        answers.setdefault(row["id"], {})[row["tag"]] = row
    hub = of["model"]["source"] in ("huggingface", "modelscope", "s3")
    found = {
        "notice": NOTICE,
        "run": Path(settings["results"]).name,
        "experiment": experiment,
        "model": {
            "name": "built here" if of["model"]["source"] == "tiny" else of["model"]["path"] or of["model"]["repo"],
            "revision": of["model"]["revision"] if hub else None,
            "tuned": of["adapter"] is not None,
        },
        "images_recipe": settings["images"][of["images"]],
        "window": told["window"],
        "versions": told["versions"],
        "scores": scores(evaluation),
        "images": [
            _image(image, answers[image["id"]], of["answers"]["box"]) | {"similar": similar.get(image["id"], [])}
            for image in told["images"]
        ],
        "unreadable": told["unreadable"],
    }
    Draft202012Validator(yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))).validate(found)
    return found


def _image(image: dict[str, Any], answers: dict[str, dict[str, Any]], form: str) -> dict[str, Any]:
    place = Letterbox(**image["letterbox"])
    tasks = {
        tag: {"prompt": row["prompt"], "answer": row["prediction"]} | {key: row[key] for key in ("tokens", "stopped")}
        for tag, row in answers.items()
    }
    record = records.parse(tasks["JSON_RECORD"]["answer"])[0] if "JSON_RECORD" in tasks else None
    about = {key: image[key] for key in ("id", "file", "series", "frame", "frames")}
    return about | {
        "width": place.width,
        "height": place.height,
        "picture": f"pictures/{image['id']}.jpg",
        "tasks": tasks,
        "record": record,
        "box": where(tasks["DETECT_REGION_LOC"]["answer"], place, form) if "DETECT_REGION_LOC" in tasks else None,
    }


def where(answer: str, place: Letterbox, form: str) -> dict[str, list[float] | None] | None:
    """The box that an answer states, x1, y1, x2, y2 in `thousandths` of the picture that the model saw, and in pixels
    of the `original`, clipped to it, null where it lies outside; None without a box. `form`: the config's answers.box.
    """
    original, seen = boxes.read(answer, place, form), boxes.parse(answer)
    if original is None or seen is None:
        return None
    inside = None
    with suppress(ValueError):
        inside = [round(v, 1) for v in original.clamped(place.width, place.height).edges]
    if form == "source":  # its tokens are of the original
        seen = original.scaled(place).to_thousandths(place)
    return {"original": inside, "thousandths": [round(v, 1) for v in seen.edges]}


def draw(original: Path, box: dict[str, Any] | None) -> Image.Image:
    """The picture in its own size and frame, with its box."""
    with Image.open(original) as image:
        picture: Image.Image = image.convert("RGB")
    if box and box["original"]:
        ImageDraw.Draw(picture).rectangle(box["original"], outline=BOX, width=max(2, max(picture.size) // 250))
    return picture
