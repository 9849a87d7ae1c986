"""Rewriting by a real server on this machine that answers, is slow, refuses or talks nonsense: nothing is lost."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openai_server import Reply, as_json, completion, serving
from radtune.clean.rewrite import clean, read_prompt
from radtune.clean.server import ask_all
from radtune.clean.wording import find_wording
from radtune.files import UserError, read_json

ROOT = Path(__file__).parents[2]
FREE = {"input": None, "output": None}
FACT = "A hyperdense area of {:.1f}% lies on the left side of the image, next to the frontal lobe."
CHATTY = "I'm sorry, but as an AI language model I would describe the image you provided: "


def ask(url: str, folder: Path, texts: list[str], **changed: Any) -> Any:
    given: dict[str, Any] = {"system": "edit", "base_url": url, "model": "m", "cache": folder / "rewrites.jsonl"}
    given |= {"concurrency": 2, "timeout": 5.0, "retries": 1, "price": FREE}
    return ask_all(texts, **given | changed)


def test_no_text_is_sent_twice(tmp_path: Path) -> None:
    with serving(lambda text, _: completion(text.upper())) as server:
        first = ask(server.url, tmp_path, ["a", "b"])
        assert first["a"] == {"text": "A", "failed": None, "tokens": [100, 10]}
        assert ask(server.url, tmp_path, ["b", "a", "c"]) | first == first | {"c": first["a"] | {"text": "C"}}
        assert sorted(server.texts) == ["a", "b", "c"]
        assert [m["role"] for m in server.requests[0]["messages"]] == ["system", "user"]
        ask(server.url, tmp_path, ["a"], model="other")
        ask(server.url, tmp_path, ["a"], system="edit otherwise")
        assert len(server.texts) == 5


def test_many_are_asked_at_once_but_no_more_than_told(tmp_path: Path) -> None:
    def slow(text: str, _: int) -> Reply:
        time.sleep(0.2)
        return completion(text)

    with serving(slow) as server:
        ask(server.url, tmp_path, [str(n) for n in range(12)], concurrency=4)
        assert server.most_at_once == 4


def test_a_torn_line_is_asked_again(tmp_path: Path) -> None:
    with serving(lambda text, _: completion(text)) as server:
        ask(server.url, tmp_path, ["a", "b"], concurrency=1)
        cache = tmp_path / "rewrites.jsonl"
        cache.write_bytes(cache.read_bytes()[:-9])
        assert ask(server.url, tmp_path, ["a", "b"])["b"]["text"] == "b"
        assert server.texts == ["a", "b", "b"]
        assert len([json.loads(line) for line in cache.read_text().splitlines()]) == 2


@pytest.mark.parametrize(
    "reply", [as_json({"error": {}}, 429, **{"Retry-After": "1"}), as_json({}, 500), Reply(503, b"<html>")]
)
def test_a_server_in_trouble_is_asked_again_after_a_pause(tmp_path: Path, reply: Reply) -> None:
    with serving(lambda text, before: completion(text) if before else reply) as server:
        start = time.monotonic()
        assert ask(server.url, tmp_path, ["a"])["a"]["text"] == "a"
        assert time.monotonic() - start > (0.9 if reply.status == 429 else 0.3)
        assert server.texts == ["a", "a"]


NONSENSE = [
    Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"}),
    Reply(200, b"{broken", {"Content-Type": "application/json"}),
    as_json({"choices": []}),
    as_json({}),
    as_json([1]),
    as_json("text"),
    as_json({"choices": [{"message": None}]}),
    completion("half a letter: \ud800"),
    as_json({"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": None}}]}),
]


@pytest.mark.parametrize("reply", NONSENSE, ids=lambda reply: reply.body[:60])
def test_nonsense_leaves_the_others(tmp_path: Path, reply: Reply) -> None:
    with serving(lambda text, _: reply if text == "b" else completion(text)) as server:
        found = ask(server.url, tmp_path, ["a", "b", "c"])
        assert {text: answer["failed"] for text, answer in found.items()} == {"a": None, "b": "nonsense", "c": None}
        server.answer = lambda text, _: completion(text)
        assert ask(server.url, tmp_path, ["a", "b", "c"])["b"]["failed"] is None  # what failed is asked again
        assert sorted(server.texts) == ["a", "b", "b", "c"]


def test_a_slow_answer_is_not_waited_for(tmp_path: Path) -> None:
    def slow(text: str, _: int) -> Reply:
        time.sleep(2 if text == "b" else 0)
        return completion(text)

    with serving(slow) as server:
        found = ask(server.url, tmp_path, ["a", "b"], timeout=0.3, retries=0)
    assert {text: answer["failed"] for text, answer in found.items()} == {"a": None, "b": "timeout"}


def test_a_server_that_drips_is_given_up(tmp_path: Path) -> None:
    """No read takes long, but all of them together; in the head as well as in the body."""
    with serving(lambda text, _: completion(text)._replace(pause=0.05 if text == "b" else 0)) as server:
        start = time.monotonic()
        found = ask(server.url, tmp_path, ["a", "b"], timeout=0.5)
        assert time.monotonic() - start < 10  # of 15 and more
    assert {text: answer["failed"] for text, answer in found.items()} == {"a": None, "b": "timeout"}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("unknown", ["max_tokens", "temperature"])
def test_who_knows_only_the_newer_parameters_is_asked_by_these(tmp_path: Path, unknown: str, status: int) -> None:
    def answer(text: str, _: int) -> Reply:
        error = {"code": "unsupported_parameter", "param": unknown, "message": "no"}
        return as_json({"error": error}, status) if unknown in server.requests[-1] else completion(text)

    with serving(answer) as server:
        found = ask(server.url, tmp_path, ["a", "b", "c"], concurrency=1)
    assert [answer["failed"] for answer in found.values()] == [None] * 3
    assert len(server.texts) == 4  # and from then on at once
    assert [sorted(request.keys() & {"max_tokens", "temperature", "max_completion_tokens"}) for request in
            server.requests] == [["max_tokens", "temperature"], *[["max_completion_tokens"]] * 3]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"code": "context_length_exceeded", "param": "messages"}, "400 (context_length_exceeded, messages) 10 times"),
        ({"code": None, "param": "messages[0].role"}, "400 (messages[0].role) 10 times"),
        ({"code": "sk_secret", "param": "<b>Secret</b>"}, "400 10 times"),
        ({"code": 400, "param": ["secret"]}, "400 10 times"),
        ("secret", "400 10 times"),
    ],
)
def test_what_a_server_finds_bad_is_named_but_never_its_words(
    tmp_path: Path, error: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk_secret")
    if isinstance(error, dict):
        error["message"] = "secret"
    with serving(lambda *_: as_json({"error": error}, 400)) as server, pytest.raises(UserError) as caught:
        ask(server.url, tmp_path, [str(n) for n in range(100)], retries=0, concurrency=1)
    assert f"answered {told} in a row" in str(caught.value)
    assert "ecret" not in str(caught.value)
    assert set(Counter(server.texts).values()) == {2}  # once more in the other way


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("price", "cost"), [({"input": 1000.0, "output": None}, ", cost 0.40"), (FREE, "")])
def test_time_left_and_cost_are_shown_on_the_way(
    tmp_path: Path, price: dict[str, float | None], cost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(text: str, _: int) -> Reply:
        time.sleep(0.3)
        return completion(text)

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with serving(slow) as server:
        ask(server.url, tmp_path, [str(n) for n in range(6)], concurrency=1, price=price)
    shown = terminal.getvalue()
    wanted = rf"rewrite: +67%\|.*\| 4/6 \[00:\d\d<00:\d\d, [^]]*400 tokens in, 40 out{cost}\]"
    assert re.search(wanted, shown), shown


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "answered 401; set OPENAI_API_KEY to a key that it takes"),
        (403, "answered 403; set OPENAI_API_KEY to a key that may use the model"),
        (404, "answered 404; check cleaning.rewrite.base_url, which mostly ends in /v1, and that it serves m,"),
    ],
)
def test_who_is_refused_stops_at_once_and_no_log_has_the_key(
    tmp_path: Path, status: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    message = {"error": {"message": "Incorrect API key provided: sk-very-secret"}}
    with (
        serving(lambda text, _: completion(text) if text == "0" else as_json(message, status)) as server,
        pytest.raises(UserError) as caught,
    ):
        ask(server.url, tmp_path, [str(n) for n in range(50)], concurrency=1)
    assert sentence in str(caught.value)
    assert len(server.texts) < 5
    assert server.keys[0] == "Bearer sk-very-secret"
    assert "secret" not in str(caught.value) + "".join(capfd.readouterr())
    assert "secret" not in (cache := (tmp_path / "rewrites.jsonl").read_text())
    assert len(cache.splitlines()) == 1  # what was answered is kept


def test_a_server_that_only_fails_stops_with_one_sentence(tmp_path: Path) -> None:
    with serving(lambda *_: as_json({}, 500)) as server, pytest.raises(UserError) as caught:
        ask(server.url, tmp_path, [str(n) for n in range(100)], retries=0)
    assert f"{server.url} answered 500 10 times in a row; see to the server" in str(caught.value)
    assert len(server.texts) < 20


def test_one_failure_in_between_is_not_a_row(tmp_path: Path) -> None:
    with serving(lambda text, _: completion(text) if int(text) % 3 else as_json({}, 500)) as server:
        found = ask(server.url, tmp_path, [str(n) for n in range(60)], retries=0, concurrency=1)
    assert sum(answer["failed"] == "status" for answer in found.values()) == 20


def test_no_server_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(UserError, match="cannot be reached; see to the server"):
            ask(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", tmp_path, ["a"], retries=0)


# --- the command ----------------------------------------------------------------------------------------------------


def samples(folder: Path, tags: tuple[str, ...] = ("CAPTION",)) -> Path:
    """Thirty groups, two in three of train; every second text is chatty."""
    rows = []
    for n in range(30):
        said = (CHATTY if n % 2 else "") + FACT.format(n / 10)
        for tag in tags:
            parts: dict[str, Any] = {"text": said}
            if tag == "JSON_RECORD":
                parts = {
                    "caption": FACT.format(1),
                    "region of interest": said,
                    "observation": "Old.",
                    "notes": "Advised.",
                }
                parts |= {"bloc": [1, 2, 3, 4], "bloc_form": "list", "bloc_box": [1.0, 2.0, 3.0, 4.0]}
            if tag == "DETECT_REGION_LOC":
                parts = {"form": "loc_tokens", "label": "sorry", "loc": [1, 2, 3, 4]}
            split = ("train", "train", "train", "train", "validation", "test")[n % 6]
            row = {"shard": "s", "row": len(rows), "id": str(n), "sample": str(n), "tag": tag, "group": f"g{n}"}
            rows.append(row | {"split": split, "status": "kept", "parts": json.dumps(parts)})
    pq.write_table(pa.Table.from_pylist(rows), folder / "samples.parquet")
    (folder / "disagreements.jsonl").touch()
    find_wording(*(folder / name for name in ("samples.parquet", "disagreements.jsonl", "wording.parquet", "w.json")))
    return folder / "samples.parquet"


def run_clean(
    folder: Path, url: str | None, similarity: float = 30, kinds: Sequence[str] = ("chatty",), **server: Any
) -> tuple[list[Any], Any]:
    given: dict[str, Any] = {"action": "drop", "kinds": list(kinds)}
    how: dict[str, Any] = {"concurrency": 2, "timeout": 5, "retries": 0, "price": {"input": 10, "output": None}}
    if url:
        given |= {"action": "rewrite", "base_url": url, "model": "m", "similarity": similarity}
    out = folder / "cleaned" / "a.parquet"
    prompt = ROOT / "config" / "prompts" / "rewrite.yaml"
    names = (folder / "samples.parquet", folder / "wording.parquet", out, out.with_suffix(".json"))
    clean(*names, cleaning=given, server=how | server if url else None, prompt=prompt if url else None)
    return pq.read_table(out).to_pylist(), read_json(out.with_suffix(".json"))


@pytest.mark.parametrize("content", ["", "system: [", "system: ''", "user: a", "system: a\nuser: b", "- system"])
def test_a_prompt_file_of_another_shape_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserError, match=r"mine\.yaml: needs to be YAML with the key system, a text, and no other"):
        read_prompt(tmp_path / "mine.yaml")


def test_drop_takes_what_was_found_but_not_of_test(tmp_path: Path) -> None:
    samples(tmp_path)
    rows, told = run_clean(tmp_path, None)
    assert {int(row["id"]) for row in rows} == {n for n in range(30) if n % 2 and n % 6 != 5}
    assert {(row["action"], row["reason"]) for row in rows} == {("drop", "chatty")}
    assert told["splits"] == {"train": {"rows": 20, "drop": 10}, "validation": {"rows": 5}}


def test_what_would_leave_no_row_is_refused(tmp_path: Path) -> None:
    samples(tmp_path)
    table = pq.read_table(tmp_path / "samples.parquet").to_pylist()
    odd = [row for row in table if int(row["id"]) % 2]
    pq.write_table(pa.Table.from_pylist(odd), tmp_path / "samples.parquet")
    with pytest.raises(UserError, match=r"would drop every row of train; take a kind out of cleaning\.kinds"):
        run_clean(tmp_path, None)


def test_accepted_rewrites_replace_free_text_alone(tmp_path: Path) -> None:
    samples(tmp_path, ("CAPTION", "JSON_RECORD", "DETECT_REGION_LOC"))

    def answer(text: str, _: int) -> Reply:
        rewritten = text.removeprefix(CHATTY)
        return completion(rewritten.replace("left", "right") if "0.1%" in text else rewritten)

    with serving(answer) as server:
        rows, told = run_clean(tmp_path, server.url)
    assert {text.startswith(CHATTY) for text in server.texts} == {True}
    assert len(server.texts) == len(set(server.texts)) == 10  # those of train, each once for two tasks
    found = {(int(row["id"]), row["tag"]): row for row in rows}
    record = json.loads(found[3, "JSON_RECORD"]["parts"])
    assert record["region of interest"] == FACT.format(0.3)
    assert (record["bloc"], record["bloc_box"], record["caption"]) == ([1, 2, 3, 4], [1, 2, 3, 4], FACT.format(1))
    assert found[1, "CAPTION"] | {"similarity": 0} == {
        **{"id": "1", "tag": "CAPTION", "split": "train", "action": "keep", "parts": None, "reason": "side"},
        "similarity": 0,
    }
    assert {row["reason"] for row in rows if row["tag"] == "DETECT_REGION_LOC"} == {"not wording"}
    assert told["texts"] == {"asked": 10, "rewritten": 9, "refused": {"side": 1}}
    assert told["splits"]["train"] == {"rows": 60, "rewrite": 18, "keep": 22}
    assert told["similarity"]["mean"] > 30
    assert len(told["similarity"]["rewritten"]) == 9
    assert (told["tokens"], told["cost"]) == ([1000, 100], pytest.approx(0.01))


def test_what_is_not_near_enough_stays(tmp_path: Path) -> None:
    samples(tmp_path)
    with serving(lambda text, _: completion(text.removeprefix(CHATTY))) as server:
        rows, told = run_clean(tmp_path, server.url, similarity=100)
        assert told["texts"]["refused"] == {"similarity": 10}
        assert {row["action"] for row in rows} == {"keep"}
        _, told = run_clean(tmp_path, server.url, similarity=10)
        assert told["texts"]["rewritten"] == 10
        assert len(server.texts) == 10  # another threshold asks nobody
        _, told = run_clean(tmp_path, server.url, similarity=80)
        assert told["texts"]["rewritten"] == 10  # less chatter than facts, though it is the longer half


def test_a_misspelt_finding_can_be_mended_and_an_echo_is_no_rewrite(tmp_path: Path) -> None:
    said = [FACT.format(n / 10).replace("area", "haemorrhage") for n in range(40)]
    said[0] = said[0].replace("haemorrhage", "haemorhage")
    said[1] = said[1].replace("haemorrhage", "heamorrhage")
    said[2] = said[2].replace("haemorrhage", "haemorrhge")
    rows = [
        {"shard": "s", "row": n, "sample": f"{n}", "tag": "CAPTION", "group": f"g{n}", "split": "train"}
        | {"status": "kept", "parts": json.dumps({"text": text})}
        for n, text in enumerate(said)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "samples.parquet")
    (tmp_path / "disagreements.jsonl").touch()
    find_wording(*(tmp_path / name for name in ("samples.parquet", "disagreements.jsonl", "wording.parquet", "w.json")))
    answers = {"haemorhage": "haemorrhage", "heamorrhage": "infarct", "haemorrhge": "haemorrhge"}
    with serving(
        lambda text, _: completion(next(text.replace(a, b) for a, b in answers.items() if a in text))
    ) as server:
        rows, _ = run_clean(tmp_path, server.url, kinds=["misspelt"])
    assert [(row["action"], row["reason"]) for row in rows] == [
        ("rewrite", ""),
        ("keep", "findings"),
        ("keep", "unchanged"),
    ]


def test_a_server_that_fails_now_and_then_loses_nothing(tmp_path: Path) -> None:
    samples(tmp_path)
    with serving(
        lambda text, _: as_json({}, 500) if ".3%" in text else completion(text.removeprefix(CHATTY))
    ) as server:
        rows, told = run_clean(tmp_path, server.url, concurrency=1)
    assert told["texts"] == {"asked": 10, "rewritten": 8, "refused": {"status": 2}}
    assert sum(row["reason"] == "status" for row in rows) == 2


@pytest.mark.slow
def test_a_killed_run_goes_on_without_asking_again(tmp_path: Path) -> None:
    samples(tmp_path)

    def slow(text: str, _: int) -> Reply:
        time.sleep(0.5)
        return completion(text.removeprefix(CHATTY))

    with serving(slow) as server:
        cleaning = {"action": "rewrite", "kinds": ["chatty"], "base_url": server.url, "model": "m", "similarity": 10}
        how = {"concurrency": 1, "timeout": 5, "retries": 0, "price": FREE}
        command = [sys.executable, "-c", "from radtune.cli import main; main()", "clean"]
        command += [f"--{name}={tmp_path / name}.parquet" for name in ("samples", "wording")]
        command += [f"--cleaning={json.dumps(cleaning)}", f"--server={json.dumps(how)}"]
        command += [f"--prompt={ROOT / 'config/prompts/rewrite.yaml'}", f"--out={tmp_path / 'a.parquet'}"]
        command += [f"--summary={tmp_path / 'a.json'}"]
        job = subprocess.Popen(command, env={**os.environ, "OPENAI_API_KEY": "sk-secret"}, stderr=subprocess.PIPE)
        while len(server.texts) < 4:
            time.sleep(0.02)
            assert job.poll() is None
        job.send_signal(signal.SIGKILL)
        job.communicate()
        answered = len((tmp_path / "rewrites.jsonl").read_text().splitlines())
        assert answered >= 3
        assert not (tmp_path / "a.parquet").exists()
        asked = len(server.texts)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(server.texts) - asked == 10 - answered
    assert "10 of 10 texts rewritten; 1,000 tokens in, 100 out" in done.stderr
    assert read_json(tmp_path / "a.json")["texts"]["rewritten"] == 10
