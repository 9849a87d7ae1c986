"""A server on 127.0.0.1 that speaks OpenAI's chat completions, or whatever a test makes it answer.

with serving(lambda text, n: completion(text.upper())) as server:
    ask(server.url); server.texts  # what it was sent, in order
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str] | None = None
    pause: float = 0  # seconds after each byte, head and body


class Server:
    def __init__(self, answer: Callable[[str, int], Reply]) -> None:
        self.answer = answer  # of the user's message, and how often it was sent before
        self.url = ""
        self.texts: list[str] = []
        self.keys: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0


def completion(text: str | None, finish: str = "stop") -> Reply:
    choices = [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}]
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return as_json(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    )


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


@contextmanager
def serving(answer: Callable[[str, int], Reply], port: int = 0) -> Iterator[Server]:
    server, lock = Server(answer), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = request["messages"][-1]["content"]
            with lock:
                before = server.texts.count(text)
                server.texts.append(text)
                server.requests.append(request)
                server.keys.append(self.headers["Authorization"])
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            reply = server.answer(text, before)
            with lock:
                server.at_once -= 1
            wire, self.wfile = self.wfile, io.BytesIO()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **(reply.headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            sent, self.wfile = self.wfile.getvalue() + reply.body, wire
            with suppress(OSError):  # the client no longer waits
                for i in range(0, len(sent), 1 if reply.pause else len(sent)):
                    wire.write(sent[i : i + 1] if reply.pause else sent)
                    time.sleep(reply.pause)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as http:
        http.daemon_threads = True
        server.url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
