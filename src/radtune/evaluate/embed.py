"""How near answers are to their references in a text encoder's eyes; an option, as the encoder has to be brought along.

radtune embed --model ENCODER --predictions lora/test.jsonl --train train.json --out test.embedding.parquet

It runs on the CPU, where torch is: its file is read by `radtune evaluate`, which needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radtune.evaluate import baselines, boxes
from radtune.files import UserError, read_json, replacing

BATCH = 32  # texts

Floats = NDArray[np.float64]


def embed(
    model: Path,
    predictions: Path,
    out: Path,
    *,
    train: Path | None = None,
    neighbours: Path | None = None,
    blank: Path | None = None,
) -> None:
    """Write a table, row i = line i of `predictions`: `prediction` and each floor, the cosine x 100 to the reference.

    0 of an empty answer, NaN without one or where the reference is a box alone. `train`, `neighbours` and `blank` make
    floors as in evaluate(). What the score is stands in the table's metadata, under `signature`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = baselines.read_predictions(predictions)
    given = baselines.floors(rows, read_json(train) if train else [], neighbours, blank)
    answers = {"prediction": [row["prediction"] for row in rows], **given}
    references = [row["reference"] for row in rows]
    texts = {text for said in (references, *answers.values()) for text in said if text and boxes.parse(text) is None}
    vectors, cut = encode(model, sorted(texts, key=lambda text: (len(text), text)))

    def cosine(answer: str | None, reference: str) -> float:
        if answer is None or reference not in vectors:
            return np.nan
        return 100 * max(0.0, float(vectors[answer] @ vectors[reference])) if answer in vectors else 0.0

    columns = {of: [cosine(*pair) for pair in zip(said, references, strict=True)] for of, said in answers.items()}
    what = (
        f"cosine x 100, below 0 as 0, of prediction and reference as means of {model.name}'s last hidden states over "
        f"all tokens (transformers {version('transformers')}), texts cut at {cut} tokens; not where the reference is a "
        "box alone"
    )
    with replacing(out) as temporary:
        pq.write_table(pa.table(columns, metadata={"signature": what}), temporary)


def encode(model: Path, texts: Sequence[str]) -> tuple[dict[str, Floats], int]:
    """{text: its vector of length 1}, and the number of tokens after which a text is cut. Nothing is fetched."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        encoder = AutoModel.from_pretrained(model, local_files_only=True, dtype=torch.float32).eval()
        cut = min(tokenizer.model_max_length, encoder.config.max_position_embeddings - 2)  # RoBERTa's begin at 2
    except (OSError, ValueError, AttributeError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"{model}: no text encoder ({why}); correct evaluation.embedding in the config.") from None
    vectors: dict[str, Floats] = {}
    for start in range(0, len(texts), BATCH):
        some = texts[start : start + BATCH]
        tokens = tokenizer(list(some), padding=True, truncation=True, max_length=cut, return_tensors="pt")
        with torch.inference_mode():
            hidden = encoder(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
        vectors |= zip(some, means.double().numpy(), strict=True)
    return vectors, cut
