"""The training cases most like new images, found in the run's own index; and the questions with their answers, where
the experiment is asked that way.

    radtune similar-cases --prepared FOLDER/prepared --index RUN/retrieve/ENCODER/RECIPE/index --encoder MODEL \\
        --train sharegpt/NAME/train.json --samples RUN/data/samples.parquet --out FOLDER/similar

Out: FOLDER/similar/cases.json, {id: [{image, similarity, answers: {tag: text}}]}, and questions.json.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from radtune import gpu
from radtune.cases import read_wording, with_cases
from radtune.files import read_json, replacing, write_json
from radtune.predict.embed_images import BATCH, Floats, embed, load_encoder
from radtune.predict.retrieve import KEPT, nearest

SHOWN = 3  # cases of an image whose answers are not asked with


def similar_cases(
    prepared: Path,
    index: Path,
    encoder: Path,
    train: Path,
    samples: Path,
    out: Path,
    *,
    image_max_pixels: int,
    image_min_pixels: int,
    k: int = SHOWN,
    characters: int = 0,
    prompts: Path | None = None,
    gpus: int = 1,
    gpu_memory_gib: float | None = None,
) -> None:
    """Write folder `out`. `encoder`: the folder of the model that made the index's vectors. `samples`: the run's rows,
    by which a picture that the run itself holds gets cases of other groups alone. `prompts`: where given, the answers
    of the first `k` cases join each question, worded as there, each of at most so many `characters`.
    """
    device = gpu.claim(gpus, gpu_memory_gib)
    model, processor = load_encoder(encoder, device)
    limits = {"image_max_pixels": image_max_pixels, "image_min_pixels": image_min_pixels}

    def vectors(pictures: list[Any]) -> Floats:
        return embed(pictures, model, processor, **limits)

    add_similar(prepared, index, train, samples, out, vectors, k=k, characters=characters, prompts=prompts)


def add_similar(
    prepared: Path,
    index: Path,
    train: Path,
    samples: Path,
    out: Path,
    vectors: Callable[[list[Any]], Floats],
    *,
    k: int = SHOWN,
    characters: int = 0,
    prompts: Path | None = None,
) -> None:
    """similar_cases() with an encoder that is loaded: PIL images to vectors (n, d)."""
    images = {one["id"]: prepared / one["image"] for one in read_json(prepared / "files.json")["images"]}
    groups = _groups(samples, list(images))
    answers: dict[str, dict[str, str]] = {}
    for record in read_json(train):
        answers.setdefault(record["images"][0], {}).setdefault(record["tag"], record["messages"][-1]["content"])
    found: dict[str, list[dict[str, Any]]] = {}
    ids = list(images)
    for start in range(0, len(ids), BATCH):
        some = ids[start : start + BATCH]
        pictures = [_opened(images[id]) for id in some]
        near = nearest(index, vectors(pictures), KEPT, [groups.get(id) for id in some])
        for id, cases in zip(some, near, strict=True):
            assert groups.get(id) not in {case.group for case in cases}, "a case of the picture's own group"
            found[id] = [  # of an image whose texts the cleaning dropped there is nothing to say
                {"image": case.image, "similarity": case.similarity, "answers": answers[case.image]}
                for case in cases
                if case.image in answers
            ]
    questions = read_json(prepared / "questions.json")
    if prompts:
        wording = read_wording(prompts)
        for question in questions:
            told = [
                case["answers"][question["tag"]] for case in found[question["id"]] if question["tag"] in case["answers"]
            ]
            turn = question["messages"][0]
            turn["content"] = with_cases(turn["content"], told[:k], wording, characters)
    with replacing(out) as folder:
        folder.mkdir()
        write_json(folder / "cases.json", {id: cases[:k] for id, cases in found.items()})
        write_json(folder / "questions.json", questions)


def _groups(samples: Path, ids: list[str]) -> dict[str, str]:
    """{id: group} of the images that the run's data hold too; an id is the beginning of an image's SHA-256."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = pq.read_table(samples, columns=["image_sha256", "group"])
    begins = pc.utf8_slice_codeunits(rows["image_sha256"], 0, len(ids[0]))
    known = rows.set_column(0, "id", begins).filter(pc.is_in(begins, pa.array(ids))).drop_null()
    return dict(zip(*known.to_pydict().values(), strict=True))


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        picture: Image.Image = image.convert("RGB")
    return picture
