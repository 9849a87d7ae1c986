"""A server on 127.0.0.1 that speaks what the clients of Hugging Face and ModelScope ask, and can be made to fail.

    with serving() as hub:
        hub.repositories["dataset", "some/set"] = {"data/train.parquet": b"..."}
        run(hub, folder, "huggingface", "list-shards", "--repo", "some/set", ...)

As on the real hubs a large file (here: *.parquet, *.safetensors) is a redirect to a signed address that honours Range,
and a small one is answered at once, whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BRANCHES = ("main", "master", COMMIT)


class Answer(NamedTuple):
    """One answer with a file's bytes: the Range that was asked for, and how many bytes were sent."""

    name: str
    range: str | None
    sent: int


class Hub:
    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], dict[str, bytes]] = {}
        self.drops = 0  # so many answers with a large file's bytes break off half way
        self.corrupt = False  # a large file's first byte is another one
        self.longer = False  # a large file has bytes more than stated
        self.go_on = threading.Event()  # cleared: an answer with a large file's bytes stops half way until it is set
        self.go_on.set()
        self.gated = False
        self.broken = False  # answers each request with an error, and with the token that came with it
        self.states_sha256 = True
        self.xet = False  # the headers that send a client to another protocol on another host
        self.answers: list[Answer] = []
        self.tokens: set[str] = set()  # Authorization headers seen
        self.url = ""

    def environment(self, folder: Path) -> dict[str, str]:
        homes = {name: str(folder / name) for name in ("HF_HOME", "MODELSCOPE_CACHE", "MODELSCOPE_HOME")}
        return homes | {"HF_ENDPOINT": self.url, "MODELSCOPE_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0"}

    def find(self, kind: str, repo: str, revision: str) -> dict[str, bytes] | None:
        return self.repositories.get((kind, repo)) if revision in BRANCHES else None


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def large(path: str) -> bool:
    return path.endswith((".parquet", ".safetensors"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        where = urlsplit(self.path)
        parts, query = unquote(where.path).strip("/").split("/"), parse_qs(where.query)
        if self.hub.broken:
            words = f"\x1b[31mbroken\n{self.headers.get('Authorization')} {self.hub.url}/x?Signature=secret-signature"
            self.json({"error": words, "Message": words}, 500)
        elif parts[0] == "large":
            self.bytes_of(parts[1])
        elif parts[:2] == ["api", "v1"]:
            self.modelscope(parts[2:], {key: values[0] for key, values in query.items()})
        else:
            self.huggingface(parts)

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def huggingface(self, parts: list[str]) -> None:
        """/api/{kind}s/OWNER/NAME/revision/REVISION and [/datasets]/OWNER/NAME/resolve/REVISION/PATH."""
        listing = parts[0] == "api"
        kind = "dataset" if parts[listing] == "datasets" else "model"
        rest = parts[1 + listing :] if listing or kind == "dataset" else parts
        repo, revision, path = "/".join(rest[:2]), rest[3], "/".join(rest[4:])
        if (kind, repo) not in self.hub.repositories:
            return self.json({"error": "Repository not found"}, 401, X_Error_Code="RepoNotFound")
        files = self.hub.find(kind, repo, revision)
        if files is None:
            return self.json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
        if listing:
            return self.json({"id": repo, "sha": COMMIT, "siblings": [self.sibling(*f) for f in files.items()]})
        if self.hub.gated:
            return self.json({"error": "Access is restricted"}, 403, X_Error_Code="GatedRepo")
        if path not in files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        data = files[path]
        found = {"X_Repo_Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if not large(path):
            return self.answer(200, data, **found)
        found |= {"X_Linked_Etag": f'"{sha256(data)}"', "X_Linked_Size": str(len(data))}
        if self.hub.xet:
            found |= {"X_Xet_Hash": sha256(data), "X_Xet_Refresh_Route": "http://127.0.0.1:9/refresh"}
        self.answer(302, Location=f"{self.hub.url}/large/{sha256(data)}?Signature=secret-signature", **found)

    def sibling(self, path: str, data: bytes) -> dict[str, Any]:
        stated = {"lfs": {"size": len(data), "sha256": sha256(data), "pointerSize": 130}}
        entry = {"rfilename": path, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
        return entry | (stated if large(path) and self.hub.states_sha256 else {})

    def modelscope(self, parts: list[str], query: dict[str, str]) -> None:
        """/api/v1/{kind}s/OWNER/NAME/repo/tree|files, and .../repo?FilePath=PATH."""
        if parts[0] == "repos":
            return self.json({"Code": 200, "Data": {"InternalRegionQueryAddress": ""}})
        kind, repo = parts[0].removesuffix("s"), "/".join(parts[1:3])
        files = self.hub.find(kind, repo, query["Revision"])
        if self.hub.gated:
            return self.json({"Code": 10010103002, "Message": "no access", "Success": False}, 403)
        if files is None or query.get("FilePath", next(iter(files))) not in files:
            return self.json({"Code": 10010205001, "Message": "not found", "Success": False}, 404)
        if "FilePath" in query:
            data = files[query["FilePath"]]
            if not large(query["FilePath"]):
                return self.answer(200, data)
            return self.answer(302, Location=f"{self.hub.url}/large/{sha256(data)}?Signature=secret-signature")
        page, size = int(query.get("PageNumber", 1)), int(query.get("PageSize", 3000))
        entries = [self.entry(*file) for file in files.items()][(page - 1) * size : page * size]
        self.json({"Code": 200, "Success": True, "Data": {"Files": entries, "LatestCommitter": {"Id": ""}}})

    def entry(self, path: str, data: bytes) -> dict[str, Any]:
        stated = {"Sha256": sha256(data)} if self.hub.states_sha256 else {}
        known = {"Path": path, "Name": Path(path).name, "Type": "blob", "Size": len(data), "IsLFS": large(path)}
        return known | stated | {"Revision": COMMIT, "CommittedDate": 1725790000}

    def bytes_of(self, digest: str) -> None:
        """The large file of this sha256, from where the Range header says."""
        hub = self.hub
        files = [file for repository in hub.repositories.values() for file in repository.items()]
        name, data = next(file for file in files if sha256(file[1]) == digest)
        whole = (bytes([data[0] ^ 1]) + data[1:] if hub.corrupt else data) + (b"more" if hub.longer else b"")
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        if start >= len(whole):
            return self.answer(416, Content_Range=f"bytes */{len(whole)}")
        body = whole[start:]
        length = {"Content_Length": str(len(body))}
        if asked:
            length["Content_Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        dropped = hub.drops > 0
        hub.drops -= dropped
        sent = body[: len(body) // 2] if dropped else body
        hub.answers.append(Answer(name, asked, len(sent)))
        half = len(sent) // 2
        self.answer(206 if asked else 200, sent[:half], **length)
        self.wfile.flush()
        self.hub.go_on.wait(30)
        self.wfile.write(sent[half:])
        if dropped:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def start(hub: Hub, folder: Path, source: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A radtune command, which talks to `hub`; a client reads its environment once, so each is a process."""
    command = [sys.executable, "-c", "from radtune.cli import main; main()", *arguments, "--source", source]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "MODELSCOPE_"))}
    clean |= hub.environment(folder / "home") | environment
    return subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(hub: Hub, folder: Path, source: str, *arguments: str, **environment: str) -> str:
    """What the command wrote to stderr; it is one sentence exactly where the command fails."""
    with start(hub, folder, source, *arguments, **environment) as process:
        written, errors = process.communicate(timeout=90)
    assert written == ""
    if process.returncode == 0:
        assert errors == ""
    else:
        assert process.returncode == 1
        assert errors.startswith("radtune: ")
        assert errors.count("\n") == 1
    return errors
