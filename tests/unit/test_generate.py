"""How batches grow on a GPU and shrink where memory runs out; a model stands in that answers so many prompts at once.

A real model, running out of the machine's real memory, is in tests/workflow/test_train.py.
"""

from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from radtune import gpu
from radtune.files import read_jsonl, write_json
from radtune.predict import generate
from radtune.predict.answers import answer_all


def batches(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    samples: int,
    batch_size: int,
    *,
    roomy: int = 10**9,
    fits: int = 10**9,
) -> list[int]:
    """The sizes of the batches that were tried; each sample gets its own answer, once and in order."""
    tried: list[int] = []

    def answer(model: Any, processor: Any, encoded: list[dict[str, Any]], *_: Any) -> list[dict[str, Any]]:
        tried.append(len(encoded))
        if len(encoded) > fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return encoded

    monkeypatch.setattr(generate, "_answer", answer)
    monkeypatch.setattr(gpu, "meter", lambda _: lambda: tried[-1] < roomy)
    model = SimpleNamespace(device=SimpleNamespace(type=device))
    given = [({"id": str(n)}, {"n": n}) for n in range(samples)]
    answered = list(generate.generate(model, None, given, 4, batch_size, 24))
    assert [pair for batch in answered for pair in batch] == given
    return tried


def test_batches_double_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert batches(monkeypatch, "cuda", 100, 40) == [8, 16, 32, 40, 4]
    assert batches(monkeypatch, "cuda", 10, 4) == [4, 4, 2]
    assert batches(monkeypatch, "cuda", 0, 4) == []


def test_batches_stay_where_twice_the_memory_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert batches(monkeypatch, "cuda", 50, 64, roomy=16) == [8, 16, 16, 10]


def test_a_batch_out_of_memory_is_halved_and_none_is_as_large_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert batches(monkeypatch, "cuda", 60, 64, fits=20) == [8, 16, 32, 16, 16, 4]
    assert batches(monkeypatch, "cpu", 20, 16, fits=5) == [16, 8, 4, 4, 4, 4, 4]
    assert batches(monkeypatch, "cpu", 7, 16, fits=3) == [7, 3, 3, 1]


def test_a_single_prompt_out_of_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        batches(monkeypatch, "cpu", 4, 4, fits=0)


def test_some_samples_are_spread_over_the_whole_before_it_is_cut_in_chunks(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    records = [{"id": f"i{n}", "tag": "CAPTION", "group": "g", "images": [], "messages": turns} for n in range(10)]
    write_json(tmp_path / "test.json", records)
    said: dict[str, Any] = {"prediction": "!", "tokens": 1, "stopped": True, "seconds": 0.0}
    found = []

    def answers(waiting: list[Any]) -> Any:
        yield [(record, said) for record in waiting]

    for chunk in ("1-of-2", "2-of-2"):
        out = tmp_path / f"{chunk}.jsonl"
        given: dict[str, Any] = {"chunk": chunk, "some": 4, "settings": [], "models": []}
        answer_all(answers, tmp_path / "test.json", tmp_path, out, **given)
        found.append([row["id"] for row in read_jsonl(out)])
    assert found == [["i0", "i2"], ["i5", "i7"]]


def test_what_is_prepared_ahead_comes_in_order_and_not_all_at_once() -> None:
    begun: list[int] = []

    def prepare(record: dict[str, Any]) -> dict[str, Any]:
        begun.append(record["n"])
        return record

    records = [{"n": n} for n in range(9)]
    ahead = generate._ahead(prepare, records, 3)
    for record in records:
        assert next(ahead) == record
        assert len(begun) <= record["n"] + 4
    assert next(ahead, None) is None


def test_several_are_prepared_at_once_and_a_slow_one_keeps_its_place() -> None:
    slow_waits = Event()

    def prepare(record: dict[str, Any]) -> dict[str, Any]:
        if record["n"]:
            slow_waits.set()
        else:
            assert slow_waits.wait(60), "nothing else is prepared beside the first"
        return record

    records = [{"n": n} for n in range(4)]
    assert list(generate._ahead(prepare, records, 3)) == records


def test_an_error_while_preparing_is_raised_where_its_sample_is_due() -> None:
    ahead = generate._ahead(lambda record: 1 // record["n"], [{"n": 1}, {"n": 0}, {"n": 1}], 2)
    assert next(ahead) == 1
    with pytest.raises(ZeroDivisionError):
        next(ahead)
