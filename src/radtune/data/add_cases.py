"""ShareGPT JSON whose questions hold the answers of similar training cases, from the files without them.

    radtune add-cases --sharegpt DIR --cases cases/test.parquet --prompts en.yaml --k 2 --characters 600 --out DIR

An entry is as before, but for its question and, under `cases`, those whose answers stand in it: image, group,
similarity and the whole answer. Files of splits for which no cases are given stay as they are.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from radtune.cases import read_wording, with_cases
from radtune.files import UserError, read_json, replacing, writing_entries
from radtune.shards import SPLITS

Record = dict[str, Any]


def add_cases(sharegpt: Path, cases: list[Path], prompts: Path, out: Path, *, k: int, characters: int) -> None:
    """Write the folder `out`. `cases`: of find_cases(), {split}.parquet; of each image the first k that have an answer
    to the question's tag. `characters`: the most that an answer adds. Raises UserError where a case is of the sample's
    own group.
    """
    wording = read_wording(prompts)
    train = read_json(sharegpt / "train.json")
    answers = {(record["images"][0], record["tag"]): record["messages"][-1]["content"] for record in reversed(train)}
    group_of = {record["images"][0]: record["group"] for record in train}
    given = {path.stem: path for path in cases}
    with replacing(out) as folder:
        folder.mkdir()
        shutil.copy(sharegpt / "dataset_info.json", folder)
        for split in SPLITS:
            if split not in given:
                shutil.copy(sharegpt / f"{split}.json", folder)
                continue
            near = _read_cases(given[split])
            with writing_entries(folder / f"{split}.json") as add:
                for record in read_json(sharegpt / f"{split}.json"):
                    found = _chosen(record, near, answers, k, given[split])
                    if any(group_of[case["image"]] == record["group"] for case in found):
                        raise UserError(
                            f"{given[split]}: a case of sample {record['id']} is of its own group; find them anew."
                        )
                    turn, said = record["messages"][-2], [case["answer"] for case in found]
                    turn["content"] = with_cases(turn["content"], said, wording, characters)
                    add(record | {"cases": found})


def _read_cases(path: Path) -> dict[str, list[Record]]:
    """{image: its cases, nearest first}."""
    rows = pq.read_table(path).to_pylist()
    return {
        row["image"]: [
            {"image": image, "group": group, "similarity": similarity}
            for image, group, similarity in zip(row["cases"], row["groups"], row["similarity"], strict=True)
        ]
        for row in rows
    }


def _chosen(
    record: Record, near: dict[str, list[Record]], answers: dict[tuple[str, str], str], k: int, path: Path
) -> list[Record]:
    image, tag = record["images"][0], record["tag"]
    if image not in near:
        raise UserError(f"{path} has no image {image}; find the cases of these samples anew.")
    there = [case for case in near[image] if (case["image"], tag) in answers]
    return [case | {"answer": answers[case["image"], tag]} for case in there[:k]]
