"""Texts sent to a server that speaks OpenAI's API, each once in a lifetime: what was answered is kept as it comes.

The answers stand in a JSON-lines file, under a digest of text, prompt, model and address. Who asks is read from the
environment alone, OPENAI_API_KEY; a server of one's own needs none.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, TypedDict

from tqdm import tqdm

from radtune.digest import digest
from radtune.files import UserError

IN_A_ROW = 10  # requests that may fail one after the other, each with all its retries
ROOM = 64  # tokens beyond a text's characters that an answer may have
GRACE = 1  # seconds beyond the client's own timeout, which holds for each read and is tried again

# How an answer is limited: as most servers know it, and as those do that refuse that with one of REFUSED
WAYS = (lambda most: {"temperature": 0, "max_tokens": most}, lambda most: {"max_completion_tokens": most})
REFUSED = (400, 422)


class Answer(TypedDict):
    """Of one text: what was answered, or why there is no answer (a key of accept.REFUSALS); tokens in and out."""

    text: str
    failed: str | None
    tokens: list[int]


class _Failed(Exception):
    def __init__(self, reason: str, why: str, advice: str | None = None):
        super().__init__(why)
        self.reason, self.why, self.advice = reason, why, advice  # advice: no other request would fare better


def ask_all(
    texts: Sequence[str],
    *,
    system: str,
    base_url: str,
    model: str,
    cache: Path,
    concurrency: int,
    timeout: float,
    retries: int,
    price: dict[str, float | None],
) -> dict[str, Answer]:
    """The answer to each distinct text. One that fails is asked again by the next run, as only answers are kept.

    Raises UserError where the server refuses who asks or knows no such model, IN_A_ROW requests fail one after the
    other, or none reaches it.
    """
    keys = {text: digest([text, system, model, base_url]) for text in texts}
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a job orphaned by a killed workflow, or another dataset's, may be at it
        known = _read(file)
        waiting = {key: text for text, key in keys.items() if key not in known}
        if waiting:
            with _completing(base_url, timeout, retries, model, system) as complete:
                asked = _ask(waiting, complete, file, concurrency, price)
                known |= _until_it_fails(asked, len(waiting), base_url, cache)
    return {text: known[key] for text, key in keys.items()}


def _ask(
    waiting: dict[str, str],
    complete: Callable[[str], Answer],
    file: IO[bytes],
    concurrency: int,
    price: dict[str, float | None],
) -> Generator[tuple[str, Answer | _Failed]]:
    """Key and answer of each waiting text, {key: text}, as they come; what is answered is in `file` by then."""
    lock, tokens = threading.Lock(), [0, 0]

    def one(key: str, text: str) -> Answer | _Failed:
        try:
            answer = complete(text)
        except _Failed as error:
            return error
        line = json.dumps({"key": key} | answer, ensure_ascii=False).encode() + b"\n"
        with lock:  # in this thread, so that what is under way when the run stops is kept as well
            file.write(line)
            file.flush()
        return answer

    seldom = 0.1 if sys.stderr.isatty() else 30  # seconds between two lines of a log
    with (
        ThreadPoolExecutor(concurrency) as pool,
        tqdm(total=len(waiting), desc="rewrite", unit="text", mininterval=seldom) as bar,
    ):
        try:
            asked = {pool.submit(one, key, text): key for key, text in waiting.items()}
            for future in as_completed(asked):
                answer = future.result()
                if not isinstance(answer, _Failed):
                    tokens = [a + b for a, b in zip(tokens, answer["tokens"], strict=True)]
                bar.set_postfix_str(bill(tokens, price), refresh=False)
                bar.update()
                yield asked[future], answer
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _until_it_fails(
    asked: Generator[tuple[str, Answer | _Failed]], count: int, base_url: str, cache: Path
) -> dict[str, Answer]:
    """The answers by key, a failed one empty; UserError where to go on would be of no use."""
    found: dict[str, Answer] = {}
    in_a_row, reached = 0, False
    with closing(asked):  # which ends the requests under way
        for key, answer in asked:
            if isinstance(answer, _Failed):
                in_a_row, reached = in_a_row + 1, reached or answer.reason != "connection"
                nobody = len(found) + 1 == count and not reached
                if answer.advice or in_a_row >= IN_A_ROW or nobody:
                    raise _stop(answer, base_url, in_a_row, cache)
                answer = Answer(text="", failed=answer.reason, tokens=[0, 0])
            else:
                in_a_row, reached = 0, True
            found[key] = answer
    return found


def _stop(error: _Failed, base_url: str, in_a_row: int, cache: Path) -> UserError:
    times = f" {in_a_row} times in a row" if in_a_row > 1 and not error.advice else ""
    advice = error.advice or "see to the server, or to cleaning.rewrite in the config,"
    return UserError(
        f"{base_url} {error.why}{times}; {advice} and run the same command again: what was answered is kept in {cache}."
    )


def bill(tokens: Sequence[int], price: dict[str, float | None]) -> str:
    """Tokens in and out, and what they cost where the price of a million is given."""
    money = cost(tokens, price)
    return f"{tokens[0]:,} tokens in, {tokens[1]:,} out" + (f", cost {money:.2f}" if money is not None else "")


def cost(tokens: Sequence[int], price: dict[str, float | None]) -> float | None:
    """Of tokens in and out at the `input` and `output` price of a million; None where neither is given."""
    if price["input"] is None and price["output"] is None:
        return None
    return (tokens[0] * (price["input"] or 0) + tokens[1] * (price["output"] or 0)) / 1e6


@contextmanager
def _completing(
    base_url: str, timeout: float, retries: int, model: str, system: str
) -> Iterator[Callable[[str], Answer]]:
    """The answer to a text, for threads that wait; the requests run in one loop, where one that drips can be ended."""
    import openai

    class Client(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **how: Any) -> Any:
            try:
                async with asyncio.timeout(timeout + GRACE):
                    return await super().send(request, **how)
            except TimeoutError:
                raise openai.APITimeoutError(request) from None

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, loop).result()

    client = openai.AsyncOpenAI(
        api_key=os.environ.get("OPENAI_API_KEY") or "none",
        base_url=base_url,
        timeout=timeout,
        max_retries=retries,
        http_client=Client(timeout=timeout),
    )
    ways = list(WAYS)
    try:
        yield lambda text: wait(_complete(client, ways, model, system, text))
    finally:
        wait(client.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _complete(
    client: Any, ways: list[Callable[[int], dict[str, int]]], model: str, system: str, text: str
) -> Answer:
    """One chat completion. The messages of errors are not repeated: some servers' quote a part of the key.

    The first of `ways` is tried, and once the other where it is refused; the one that was taken is then the first.
    """
    import openai

    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    named: dict[str, None] = {}
    try:
        for way in (tried := list(ways)):
            limits = way(len(text) + ROOM)
            try:
                got = await client.chat.completions.create(model=model, messages=messages, stream=False, **limits)
            except openai.APIStatusError as error:
                named |= dict.fromkeys(_named(error, client.api_key))
                if error.status_code not in REFUSED or way is tried[-1]:
                    raise
            else:
                ways.sort(key=lambda other: other is not way)
                break
    except openai.APITimeoutError:
        raise _Failed("timeout", "did not answer in time") from None
    except openai.APIConnectionError:
        raise _Failed("connection", "cannot be reached") from None
    except openai.APIStatusError as error:
        advice = {
            401: "set OPENAI_API_KEY to a key that it takes",
            403: "set OPENAI_API_KEY to a key that may use the model",
            404: f"check cleaning.rewrite.base_url, which mostly ends in /v1, and that it serves {model},",
        }.get(error.status_code)
        why = f"answered {error.status_code}" + (f" ({', '.join(named)})" if named else "")
        raise _Failed("status", why, advice) from None
    except (openai.OpenAIError, ValueError, TypeError, AttributeError):
        raise _Failed("nonsense", "answered what is no chat completion") from None
    try:
        choice = got.choices[0]
        content, usage = choice.message.content, getattr(got, "usage", None)
        tokens = [int(getattr(usage, f"{kind}_tokens", 0) or 0) for kind in ("prompt", "completion")]
        cut = choice.finish_reason == "length"
        content = content.encode().decode().strip()  # a lone surrogate cannot be written
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise _Failed("nonsense", "answered what is no chat completion") from None
    return {"text": content, "failed": "cut" if cut else None, "tokens": tokens}


def _named(error: Any, key: str) -> Iterator[str]:
    """The code and the parameter that a server names, where they look like such and hold no key."""
    for value in (error.code, error.param):
        if isinstance(value, str) and re.fullmatch(r"[a-z_][a-z0-9_.\[\]]{0,59}", value) and key not in value:
            yield value


def _read(file: IO[bytes]) -> dict[str, Answer]:
    """The answers by key; leaves the file cut to its whole lines, as a kill can tear the last one."""
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)
    rows = map(json.loads, content[: content.rfind(b"\n") + 1].splitlines())
    return {row["key"]: {"text": row["text"], "failed": row["failed"], "tokens": row["tokens"]} for row in rows}
