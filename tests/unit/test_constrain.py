"""Answers under a schema: what is written always fits it, whatever the model would rather say, and always ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from PIL import Image
from transformers import AutoTokenizer

from radtune.data.answers import parse, render
from radtune.files import UserError, read_jsonl, write_json
from radtune.frames import Letterbox
from radtune.predict import constrain, generate
from radtune.reasons import RECORD_KEYS
from radtune.schemas import schemas
from radtune.train import tiny

PROMPTS = Path(__file__).parents[2] / "config" / "prompts"
MOST = 150
WIDTH = 1024  # of the logits: more than there are tokens, as in a model
PLACE = Letterbox(512, 256, 448, 448, 224, 0, 112)
BLOCS: list[Any] = [
    "lesion<loc_100><loc_200><loc_300><loc_400>", "left-center", '左侧 "额叶"\n', None, "",
    [10, 20, 30.5, 40], [[1, 2, 3, 4], [5, 6, 7, 8]], {"x1": 1, "box": [1, 2, 3, 4], "label": "a\\b"},
]  # fmt: skip
TEXTS = ["A hyperdense area, 1.3 %.", "左侧基底节区可见高密度影，周围水肿。", 'He said "no"\t\\ and\nwent. 𝄞']


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random one, whose tokenizer knows the English prompts but splits Chinese into bytes."""
    out = tmp_path_factory.mktemp("model") / "tiny"
    tiny.build(out, [PROMPTS / "en.yaml"])
    return out


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    return AutoTokenizer.from_pretrained(model)


def constrainer(tokenizer: Any, most: int = MOST, box: str = "qwen3vl") -> Callable[[list[str]], Any]:
    return constrain.constrainer(tokenizer, WIDTH, schemas(box), most)


def written(box: str) -> list[tuple[str, str]]:
    """(tag, answer) of records with each form of bloc, and of a box, as training has them."""
    found = []
    for bloc in BLOCS:
        for text in TEXTS:
            record = dict.fromkeys(RECORD_KEYS[:4], text) | {"bloc": bloc}
            parts = parse("JSON_RECORD", f"<JSON_RECORD>{json.dumps(record, ensure_ascii=False)}")
            found.append(("JSON_RECORD", render("JSON_RECORD", parts, record="json", box=box, letterbox=PLACE)))
    parts = parse("DETECT_REGION_LOC", f"<DETECT_REGION_LOC>{BLOCS[0]}")
    return [*found, ("DETECT_REGION_LOC", render("DETECT_REGION_LOC", parts, record="json", box=box, letterbox=PLACE))]


@pytest.mark.parametrize("box", ["qwen3vl", "florence", "source"])
def test_what_training_writes_fits_and_is_said_token_by_token(tokenizer: Any, box: str) -> None:
    """A model that is sure of an answer of training's gives that answer, in Chinese too."""
    constrained, tags = constrainer(tokenizer, 600, box), schemas(box)
    for tag, answer in written(box):
        if tag in tags:
            Draft202012Validator(tags[tag]).validate(json.loads(answer))
            wanted = [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
            assert said(constrained([tag]), [wanted], 600) == [wanted]
    assert "DETECT_REGION_LOC" in tags or box != "qwen3vl"


def said(processor: Any, wanted: list[list[int]], most: int) -> list[list[int]]:
    """What greedy generation says where the model wants these tokens above all."""
    ids = torch.zeros(len(wanted), 3, dtype=torch.long)
    for step in range(min(most, max(map(len, wanted)))):
        scores = torch.zeros(len(wanted), WIDTH)
        for row, tokens in enumerate(wanted):
            scores[row, tokens[min(step, len(tokens) - 1)]] = 1
        ids = torch.cat([ids, processor(ids, scores).argmax(1, keepdim=True)], 1)
    return [row.tolist()[: len(tokens)] for row, tokens in zip(ids[:, 3:], wanted, strict=True)]


@pytest.mark.parametrize("kind", ["noise", "bytes", "never ends"])
def test_whatever_is_wanted_it_is_valid_and_ends_in_time(tokenizer: Any, kind: str) -> None:
    """Random wishes, each answer of its own length limit; rows of other tags are untouched to the bit."""
    torch.manual_seed(0)
    tags, checks = ["JSON_RECORD", "CAPTION", "DETECT_REGION_LOC"], schemas("qwen3vl")
    many = set()
    for most in range(60, MOST, 15):
        processor, ended = constrainer(tokenizer, most)(tags), [False] * 3
        ids = torch.zeros(3, 5, dtype=torch.long)
        for _ in range(most):
            scores = torch.randn(3, WIDTH)
            if kind == "bytes":  # Chinese, in pieces
                scores[:, tokenizer("高密度影左侧额叶")["input_ids"]] += 5
            if kind == "never ends":
                scores[:, tokenizer('"}]')["input_ids"]] -= 50
            before = scores.clone()
            after = processor(ids, scores)
            assert torch.equal(after[1], before[1])
            new = after.argmax(1)
            new[[row for row in range(3) if ended[row]]] = 0  # what generate() pads with
            ended = [gone or int(one) == tokenizer.eos_token_id for gone, one in zip(ended, new, strict=True)]
            ids = torch.cat([ids, new[:, None]], 1)
        for row in (0, 2):
            tokens = ids[row, 5:].tolist()
            assert tokenizer.eos_token_id in tokens, (most, tags[row])
            answer = tokenizer.decode(tokens[: tokens.index(tokenizer.eos_token_id)])
            Draft202012Validator(checks[tags[row]]).validate(json.loads(answer))
            many.add(answer)
    assert len(many) >= 6


def test_too_few_tokens_for_any_record_are_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"max_new_tokens 20 is too few for a valid JSON_RECORD, which takes \d+ when"):
        constrainer(tokenizer, 20)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine samples of three tags, their prompts of different lengths."""
    folder = tmp_path_factory.mktemp("asked")
    Image.new("RGB", (96, 96), (90, 90, 90)).save(folder / "a.png")
    tags = ["JSON_RECORD", "CAPTION", "DETECT_REGION_LOC"]
    turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": "{}"}]
    entries = [
        {"id": f"i{n}", "tag": tags[n % 3], "group": "g", "images": ["a.png"]}
        | {"messages": [turns[0] | {"content": "<image>Describe this image." + " Again." * n}, turns[1]]}
        for n in range(9)
    ]
    write_json(folder / "test.json", entries)
    return folder


def answers(model: Path, asked: Path, out: Path, **settings: Any) -> dict[str, dict[str, Any]]:
    given = {"max_new_tokens": 100, "batch_size": 9, "image_max_pixels": 9216, "image_min_pixels": 1024}
    generate.predict(model, asked / "test.json", asked, out, **(given | settings))
    return {row["id"]: row for row in read_jsonl(out)}


@pytest.mark.slow
def test_a_model_that_knows_nothing_writes_valid_records(
    model: Path, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real model; the batch is of three tags, padded on the left, and is halved once on the way."""
    free = answers(model, asked, tmp_path / "free.jsonl")
    held = answers(model, asked, tmp_path / "held.jsonl", valid_records=True)
    answer = generate._answer

    def too_large(model: Any, processor: Any, samples: list[Any], *rest: Any) -> Any:
        if len(samples) > 5:
            answer(model, processor, samples, 3, *rest[1:])  # memory runs out in the middle
            raise RuntimeError("CUDA out of memory.")
        return answer(model, processor, samples, *rest)

    monkeypatch.setattr(generate, "_answer", too_large)
    halved = answers(model, asked, tmp_path / "halved.jsonl", valid_records=True)
    assert "out of memory with 9 prompts: going on with 4." in capsys.readouterr().err
    for id, row in held.items():
        if row["tag"] == "CAPTION":
            assert row["prediction"] == free[id]["prediction"]
        else:
            Draft202012Validator(schemas("qwen3vl")[row["tag"]]).validate(json.loads(row["prediction"]))
            assert (row["stopped"], row["prediction"]) == (True, halved[id]["prediction"])
            with pytest.raises(json.JSONDecodeError):
                json.loads(free[id]["prediction"])
    assert {id: row["prediction"] for id, row in halved.items()} == {id: row["prediction"] for id, row in held.items()}
