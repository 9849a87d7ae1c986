"""moto's S3 server on 127.0.0.1 behind a TCP proxy that notes each request and can cut an answer or hold it back.

with serving() as store:
    store.put("bucket", "data/train.parquet", b"...")
    run(store, folder, "list-shards", "--repo", "s3://bucket/data", ...)
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAVERYPUBLIC", "AWS_SECRET_ACCESS_KEY": "very-secret"}


class Asked(NamedTuple):
    """One request: GET or HEAD, the path with its query, and the Range that was asked for."""

    method: str
    path: str
    range: str | None


class Store:
    def __init__(self, moto: str) -> None:
        self.moto = moto
        self.url = ""  # of the proxy
        keys = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        config = Config(request_checksum_calculation="when_required")  # an ETag alone, as older uploads have
        self.client: Any = boto3.client("s3", endpoint_url=moto, config=config, **keys)
        self.buckets: set[str] = set()
        self.asked: list[Asked] = []
        self.cuts = 0  # so many answers are cut off ...
        self.at = 1 << 20  # ... after so many bytes
        self.flip = False  # the last byte of a long answer is another one
        self.go_on = threading.Event()  # cleared: a long answer stops after `at` bytes until it is set
        self.go_on.set()

    def put(self, bucket: str, key: str, data: bytes, **more: str) -> None:
        if bucket not in self.buckets:
            self.client.create_bucket(Bucket=bucket)
            self.buckets.add(bucket)
        self.client.put_object(Bucket=bucket, Key=key, Body=data, **more)

    def put_parts(self, bucket: str, key: str, parts: list[bytes]) -> None:
        """A multipart upload, whose ETag is the MD5 of the parts' MD5s."""
        place = {"Bucket": bucket, "Key": key}
        upload = self.client.create_multipart_upload(**place)["UploadId"]
        done = [
            {
                "PartNumber": n,
                "ETag": self.client.upload_part(**place, UploadId=upload, PartNumber=n, Body=part)["ETag"],
            }
            for n, part in enumerate(parts, 1)
        ]
        self.client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": done})

    def environment(self) -> dict[str, str]:
        return {**KEYS, "AWS_ENDPOINT_URL": self.url}

    def gets(self) -> list[Asked]:
        """The requests for an object's bytes."""
        return [one for one in self.asked if one.method == "GET" and "list-type" not in one.path]

    def check_keys(self, yes: bool) -> None:
        """Whether the server refuses who has no account there."""
        actions = b"0" if yes else b"Infinity"
        urlopen(
            Request(f"{self.moto}/moto-api/reset-auth", data=actions, headers={"Content-Type": "text/plain"})
        ).close()


def _pass_on(store: Store, client: socket.socket) -> None:
    """Move bytes between a client and the server until either ends."""
    host, port = store.moto.removeprefix("http://").split(":")
    sent = 0  # of the answer to the last request

    def requests() -> None:
        nonlocal sent
        while data := client.recv(65536):
            if found := re.match(rb"(GET|HEAD|POST|PUT) (\S+) ", data):
                asked = re.search(rb"\r\nRange: (\S+)", data, re.I)
                store.asked.append(Asked(found[1].decode(), found[2].decode(), asked and asked[1].decode()))
                sent = 0
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)

    with client, socket.create_connection((host, int(port))) as server:
        threading.Thread(target=_quietly, args=(requests,), daemon=True).start()
        with suppress(OSError):
            while data := server.recv(65536):
                sent += len(data)
                if sent >= store.at:
                    store.go_on.wait(30)
                    if store.cuts > 0:
                        store.cuts -= 1
                        break
                    if store.flip:
                        data = data[:-1] + bytes([data[-1] ^ 1])
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


def _quietly(work: Any) -> None:
    with suppress(OSError):
        work()


@contextmanager
def serving() -> Iterator[Store]:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    store = Store(f"http://{host}:{port}")
    urlopen(Request(f"{store.moto}/moto-api/reset", method="POST")).close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            while True:
                client, _ = listener.accept()
                threading.Thread(target=_pass_on, args=(store, client), daemon=True).start()

        threading.Thread(target=_quietly, args=(accept,), daemon=True).start()
        try:
            yield store
        finally:
            store.go_on.set()
            listener.shutdown(socket.SHUT_RDWR)
            moto.stop()


def clean(store: Store, folder: Path, **environment: str) -> dict[str, str]:
    """The environment of a command that talks to `store`, with a home folder of its own; "" takes a variable away."""
    found = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    found |= store.environment() | {"HOME": str(folder / "home"), "AWS_EC2_METADATA_DISABLED": "true"} | environment
    return {key: value for key, value in found.items() if value}


def start(store: Store, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from radtune.cli import main; main()", *arguments, "--source", "s3"]
    where = clean(store, folder, **environment)
    return subprocess.Popen(command, env=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(store: Store, folder: Path, *arguments: str, **environment: str) -> str:
    """What the command wrote to stderr; it is one sentence exactly where the command fails."""
    with start(store, folder, *arguments, **environment) as process:
        written, errors = process.communicate(timeout=90)
    assert written == ""
    if process.returncode == 0:
        assert errors == ""
    else:
        assert process.returncode == 1, errors
        assert errors.startswith("radtune: ")
        assert errors.count("\n") == 1, errors
    return errors
