"""Looking for wording in the texts of 30,000 images, 180,000 rows, on one core: seconds, and the peak of memory.

Words are drawn with the frequencies of a language (Zipf's), so that, unlike a phantom's, no two answers are alike and
most of the vocabulary is rare; answers have as many characters as those of captioned CT slices.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from radtune.files import read_json

WORDS = {"CAPTION": 30, "CAPTION_DETAILS": 120, "REGION_OF_INTEREST": 60, "REGION_LOC_DESCRIPTION": 60}
VOCABULARY = 30_000
RECORD = ("caption", "region of interest", "observation", "notes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=30_000)
    images = parser.parse_args().images
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    known = ["the", "of", "a", "is", "haemorrhage", "hyperdense", "ventricle", "lobe", "left", "right", "infarct"]
    words = np.array(known + ["".join(rng.choice(letters, rng.integers(4, 10))) for _ in range(VOCABULARY)])
    chance = 1 / np.arange(1, len(words) + 1)
    chance /= chance.sum()

    def text(n: int) -> str:
        drawn = rng.choice(words, n, p=chance)
        drawn = drawn[np.append(drawn[1:] != drawn[:-1], True)]  # "the the" would be a finding
        return " ".join(f"{' '.join(drawn[i : i + 15]).capitalize()} {rng.random():.1%}." for i in range(0, n, 15))

    rows = []
    for image in range(images):
        parts = {tag: {"text": text(n)} for tag, n in WORDS.items()}
        parts["REGION_OF_INTEREST"] = {"features": parts["REGION_OF_INTEREST"]["text"], "observation": text(30)}
        parts["JSON_RECORD"] = dict.fromkeys(RECORD, "") | {"caption": text(30)} | {k: text(30) for k in RECORD[1:]}
        parts["DETECT_REGION_LOC"] = {"label": "hyperdense area", "loc": [1, 2, 3, 4]}
        for tag, of in parts.items():
            name = f"{image}-{tag}"
            rows.append(
                {"shard": "train", "row": len(rows), "sample": name, "tag": tag, "group": f"{image // 150}"}
                | {"split": "train", "parts": json.dumps(of), "status": "kept"}
            )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pq.write_table(pa.Table.from_pylist(rows), folder / "samples.parquet")
        (folder / "disagreements.jsonl").touch()
        size = sum(len(row["parts"]) for row in rows) / 1e6
        command = ["radtune", "find-wording", "--samples", "samples.parquet", "--disagreements", "disagreements.jsonl"]
        count, start = len(rows), time.perf_counter()
        subprocess.run([*command, "--out", "wording.parquet", "--summary", "wording.json"], cwd=folder, check=True)
        seconds = time.perf_counter() - start
        found = {kind: of["rows"] for kind, of in read_json(folder / "wording.json")["kinds"].items() if of["rows"]}
        parquet = (folder / "samples.parquet").stat().st_size / 2**20
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{count:,} rows, {size:.0f} MB of text ({parquet:.0f} MiB of parquet): {seconds:.1f} s, {used.ru_utime:.1f} of"
        f" them at work; {used.ru_maxrss / 1024:.0f} MiB; {found}"
    )


if __name__ == "__main__":
    main()
