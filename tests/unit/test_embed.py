"""The encoder's score: a tiny BERT with random weights, whose means are worked out beside it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from radtune.evaluate.embed import embed, encode
from radtune.evaluate.score import evaluate
from radtune.files import UserError, read_json, write_json, write_jsonl

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "left", "right", "blood", "old", "scar", "no"]
BOX = '[{"bbox_2d": [0, 0, 100, 100]}]'

pytestmark = pytest.mark.slow  # imports torch and transformers


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT of 2 layers and 16 numbers, of at most 10 tokens."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoders") / "tiny-bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=10, **sizes)
    BertModel(config).eval().save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_vectors_are_means_over_a_text_s_own_tokens(bert: Path) -> None:
    """A short text beside a long one, so that it is padded, is what it is alone, without padding or mask."""
    import torch
    from transformers import BertModel

    found, cut = encode(bert, ["left blood", "a left right blood old scar no a left right"])
    assert cut == 8
    ids = torch.tensor([[WORDS.index(word) for word in ("[CLS]", "left", "blood", "[SEP]")]])
    with torch.inference_mode():
        mean = BertModel.from_pretrained(bert).eval()(ids).last_hidden_state[0].mean(0).numpy()
    assert found["left blood"] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def rows() -> list[dict[str, Any]]:
    said = [("left blood", "left blood"), ("right blood", "left blood"), ("", "old scar"), (BOX, BOX), (BOX, "a scar")]
    return [
        {"id": f"{i}", "tag": "A" if i < 3 else "B", "group": f"g{i}", "image": "", "prediction": p, "reference": r}
        for i, (p, r) in enumerate(said)
    ]


def test_a_score_beside_its_floors(bert: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "lora/test.jsonl", rows())
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "old scar"}]
    write_json(tmp_path / "train.json", [{"tag": "A", "images": ["t"], "messages": turns}])
    files = {"predictions": tmp_path / "lora/test.jsonl", "train": tmp_path / "train.json"}
    embed(bert, out=tmp_path / "embedding.parquet", **files)
    vectors, _ = encode(bert, ["left blood", "old scar", "right blood"])
    left, scar, right = (vectors[text] for text in sorted(vectors))
    found = pq.read_table(tmp_path / "embedding.parquet").to_pydict()
    assert list(found) == ["prediction", "shuffled", "common"]
    expected = [100, 100 * left @ right, 0, math.nan, 0]
    assert found["prediction"] == pytest.approx(expected, abs=1e-4, nan_ok=True)
    assert found["common"] == pytest.approx([100 * left @ scar] * 2 + [100] + [math.nan] * 2, abs=1e-4, nan_ok=True)

    out = tmp_path / "out.json", tmp_path / "out.parquet"
    evaluate(files["predictions"], *out, train=files["train"], embedding=tmp_path / "embedding.parquet")
    score = read_json(out[0])["tags"]["A"]["metrics"]["embedding"]
    assert score["value"] == pytest.approx((100 + 100 * left @ right) / 3, abs=1e-4)
    assert set(score["floors"]) == {"shuffled", "common"}
    assert score["floors"]["common"]["value"] == pytest.approx((200 * left @ scar + 100) / 3, abs=1e-4)
    with pytest.raises(UserError, match=r"embedding.parquet is of other predictions or floors; make it again"):
        evaluate(files["predictions"], *out, blank=files["predictions"], embedding=tmp_path / "embedding.parquet")
    assert "tiny-bert" in read_json(out[0])["signatures"]["embedding"]
    assert "cut at 8 tokens" in read_json(out[0])["signatures"]["embedding"]


def test_what_is_no_encoder_is_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "test.jsonl", rows())
    with pytest.raises(UserError, match=r"nowhere: no text encoder .*; correct evaluation.embedding in the config"):
        embed(tmp_path / "nowhere", tmp_path / "test.jsonl", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
