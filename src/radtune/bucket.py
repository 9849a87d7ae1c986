"""Object storage that speaks S3: what lies under s3://BUCKET/PREFIX, and one object of it, from where a try stopped.

The environment alone says who asks and whom: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
AWS_ENDPOINT_URL (a store that is not Amazon's), or a role that the machine or the pod has. Files in ~/.aws are read
only where AWS_PROFILE, AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE asks for them: a container would not see them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

TRIES = 3  # of a request, and of an object whose connection drops; each goes on where the last stopped
BLOCK = 2**17  # bytes


class Object(NamedTuple):
    """An object: its path below the prefix, its size in bytes, and its ETag, which changes with its bytes."""

    path: str
    size: int
    etag: str


def _client() -> Any:
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    for name, variable in {"config_file": "AWS_CONFIG_FILE", "credentials_file": "AWS_SHARED_CREDENTIALS_FILE"}.items():
        if not os.environ.get("AWS_PROFILE") and not os.environ.get(variable):
            session.set_config_variable(name, os.devnull)
    retries = {"mode": "standard", "total_max_attempts": TRIES}
    config = Config(retries=retries, connect_timeout=5, read_timeout=20)
    return session.create_client("s3", region_name=os.environ.get("AWS_REGION"), config=config)


def _place(url: str, path: str = "") -> dict[str, str]:
    parts = urlsplit(url)
    return {"Bucket": parts.netloc, "Key": "/".join(part for part in (parts.path.strip("/"), path) if part)}


def list_objects(url: str, suffix: str = "") -> list[Object]:
    """Every object below `url` whose name ends so, in the order that a folder's files sort in; one request a thousand.

    Raises botocore's errors.
    """
    place = _place(url)
    prefix = f"{place['Key']}/" if place["Key"] else ""
    pages = _client().get_paginator("list_objects_v2").paginate(Bucket=place["Bucket"], Prefix=prefix)
    entries = [entry for page in pages for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
    found = [Object(entry["Key"][len(prefix) :], entry["Size"], entry["ETag"].strip('"')) for entry in entries]
    return sorted((one for one in found if one.path.endswith(suffix)), key=lambda one: one.path.split("/"))


def digest(objects: list[Object]) -> str:
    """What stands for a commit: it changes with each object that is added, removed or written anew, by its ETag."""
    return hashlib.sha256(json.dumps(objects).encode()).hexdigest()[:40]


def download(url: str, path: str, size: int | None, etag: str, room: Path) -> Path:
    """One object to a file in the folder `room`, which keeps what a broken download got; its bytes fit its ETag.

    Raises botocore's errors, FlexibleChecksumError among them, after which nothing is kept.
    """
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

    client, place = _client(), _place(url, path)
    if size is None or not etag:
        head = client.head_object(**place)
        size, etag = head["ContentLength"], head["ETag"].strip('"')
    room.mkdir(parents=True, exist_ok=True)
    out = room / f"{hashlib.sha256(etag.encode()).hexdigest()[:16]}.incomplete"  # never another version's bytes
    out.touch()
    for left in reversed(range(TRIES)):
        start = out.stat().st_size
        if start >= size:
            break
        try:
            asked = {"Range": f"bytes={start}-"} if start else {}
            body = client.get_object(**place, IfMatch=f'"{etag}"', **asked)["Body"]
            with out.open("ab") as file:
                for block in body.iter_chunks(BLOCK):
                    file.write(block)
        except (HTTPClientError, IncompleteReadError):
            if not left:
                raise
            time.sleep(1)
        except FlexibleChecksumError:  # of the CRC or SHA that the store keeps beside the object
            out.unlink()
            raise
    if out.stat().st_size == size and _differs(client, place, out, etag):
        out.unlink()
        raise FlexibleChecksumError(error_msg=f"the bytes that arrived do not fit its ETag {etag}")
    return out


def _differs(client: Any, place: dict[str, str], path: Path, etag: str) -> bool:
    """Whether the file cannot be what the ETag stands for: its MD5 or, of an upload in N parts, the MD5 of the parts'
    MD5s and -N. Other forms, and objects under a key of the user's, say nothing.
    """
    found = re.fullmatch(r"[0-9a-f]{32}(?:-(\d+))?", etag)
    if not found or place["Bucket"].endswith("--x-s3"):  # those of a directory bucket are no MD5s
        return False
    parts, size = int(found[1] or 1), path.stat().st_size

    def head(part: int) -> dict[str, Any]:
        asked = {"PartNumber": part} if found[1] else {}
        return dict(client.head_object(**place, **asked))

    first = head(1)
    if "kms" in first.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in first:
        return False
    even = [first["ContentLength"]] * (parts - 1)
    if sum(even) < size and _etag(path, [*even, size - sum(even)], bool(found[1])) == etag:
        return False
    sizes = [head(part)["ContentLength"] for part in range(1, parts + 1)]  # parts need not be of one size
    return sum(sizes) == size and _etag(path, sizes, bool(found[1])) != etag


def _etag(path: Path, sizes: list[int], in_parts: bool) -> str:
    digests = []
    with path.open("rb") as file:
        for size in sizes:
            md5 = hashlib.md5(usedforsecurity=False)
            for start in range(0, size, BLOCK):
                md5.update(file.read(min(BLOCK, size - start)))
            digests.append(md5.digest())
    if not in_parts:
        return digests[0].hex()
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(sizes)}"


def explain(error: Exception, key: str) -> tuple[str, str] | None:
    """Why a store refused and what to do, where more can be said than the error's own words; `key` is the config's."""
    answer = getattr(error, "response", None)
    code = str(answer["Error"].get("Code", "")) if answer else ""
    status = answer["ResponseMetadata"].get("HTTPStatusCode") if answer else None
    name = type(error).__name__
    if code == "NoSuchBucket":
        return "no such bucket", f"check {key} and AWS_ENDPOINT_URL"
    if status == 404:
        return "not found", f"check {key}, and run it again if it was removed there: that lists anew"
    if status == 412:
        return "it changed there since it was listed", "run it again: that lists anew"
    if status in (401, 403):
        who = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where there is one, AWS_SESSION_TOKEN"
        return f"not allowed: {code}", f"check {who}, and that they may list and read {key}"
    if name in ("NoCredentialsError", "PartialCredentialsError"):
        return "no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
    if name == "ProfileNotFound":
        return "no such profile", "check AWS_PROFILE"
    if name == "ParamValidationError":
        return "no name that a bucket can have", f"check {key}"
    if name == "FlexibleChecksumError":
        return f"{error}", "it was thrown away, so run it again"
    if isinstance(error, ValueError):
        return f"{error}", "check AWS_ENDPOINT_URL"
    return None
