"""Hugging Face, ModelScope and S3: what a repository holds at a commit, and its files, checked, whole or not at all.

    radtune fetch-model --source huggingface --repo OWNER/NAME --revision main --out FOLDER
    radtune fetch-model --source s3 --repo s3://BUCKET/PREFIX --revision "" --out FOLDER

Each hub's own client does the talking. HF_TOKEN and MODELSCOPE_API_TOKEN are read from the environment alone, and
HF_ENDPOINT and MODELSCOPE_ENDPOINT name another server; for S3 see bucket.py. A prefix of a bucket has no commits: a
digest of what it holds stands for one, and an object's ETag is its own revision.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from radtune import bucket
from radtune.files import UserError, read_json, replacing, write_json

RECORD = "revision.json"  # in a model's folder: source, repo, revision as asked, commit, files
TRIES = 3  # of one file whose connection drops; each goes on where the last stopped
SECONDS = 10  # to wait for a hub's answer
_TOKENS = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}
_SECRETS = (*_TOKENS.values(), "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# The clients read these as they are imported: one sentence at a failure, and soon.
_SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",
    "MODELSCOPE_LOG_LEVEL": "CRITICAL",
    "MODELSCOPE_DOWNLOAD_MAX_RETRIES": str(TRIES - 1),
    "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "2",
    "MODELSCOPE_REPO_TREE_PAGE_TIMEOUT_SECONDS": str(SECONDS),
    "MODELSCOPE_API_CONNECT_TIMEOUT": "5",
    "MODELSCOPE_DOWNLOAD_TIMEOUT": "20",
}
T = TypeVar("T")


class HubFile(NamedTuple):
    """A file of a repository, with the size in bytes and the sha256 that the hub states for it, if it does; and its own
    revision where files have one each: an object's ETag.
    """

    path: str
    size: int | None
    sha256: str | None
    revision: str | None = None

    def stated(self) -> dict[str, Any]:
        """As JSON; null where the hub states none."""
        return {key: value for key, value in self._asdict().items() if key != "revision" or value}


def _client(source: str) -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    if "huggingface.co" not in os.environ.get("HF_ENDPOINT", "huggingface.co"):
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # a mirror speaks plain HTTP; its files' xet storage is far
    domain = os.environ.get("MODELSCOPE_DOMAIN", "")  # the older name, at which the client warns
    os.environ["MODELSCOPE_ENDPOINT"] = os.environ.get("MODELSCOPE_ENDPOINT") or domain
    token = os.environ.get(_TOKENS[source], "")
    if source == "huggingface":
        from huggingface_hub import HfApi

        return HfApi(token=token or False)  # False: not the one that a login left on the disk
    from modelscope_hub import HubApi, HubConfig

    return HubApi(HubConfig(token=token))


def _keys(kind: str) -> tuple[str, str]:
    """The config's keys that name a repository and its revision."""
    if kind == "encoder":
        return "retrieval.encoder", "retrieval.encoder_revision"
    return f"{kind}.repo", f"{kind}.revision"


def _type(kind: str) -> str:
    return "model" if kind == "encoder" else kind  # as hubs know it


def _refusal(error: Exception, source: str, kind: str, what: str) -> UserError:
    """One sentence for what a client raised, with the key of the config to check."""
    if type(error).__name__ == "LocalEntryNotFoundError" and isinstance(error.__cause__, Exception):
        error = error.__cause__  # huggingface_hub looked on the disk for what the hub did not give
    repo, revision = _keys(kind)
    name, token = type(error).__name__, _TOKENS.get(source, "")
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    if source == "s3" and (known := bucket.explain(error, f"{kind}.path")):
        why, advice = _plain(known[0]), known[1]
    elif name == "RevisionNotFoundError":
        why, advice = "no such revision", f"check {revision}"
    elif name == "GatedRepoError":
        why, advice = "gated", f"ask for access to {repo} on the hub, and set {token} to the token of who has it"
    elif status in (401, 404):
        why = "not found"
        advice = f"check {repo} and {revision}, and set {token} where the repository is private"
    elif status == 403:
        why, advice = "not allowed", f"check that {token} is set and may read {repo}"
    else:
        why = f"{name}: {_plain(error)}"
        if getattr(error, "errno", None):
            advice = "see to the disk and run it again"
        elif isinstance(error, ValueError):
            advice = f"check {repo} and {revision}"
        else:
            server = " and AWS_ENDPOINT_URL" if source == "s3" else ""
            advice = f"check the connection{server} and run it again: a broken download goes on where it stopped"
    return UserError(f"{source} did not give {what} ({why}); {advice}.")


def _plain(error: Exception | str) -> str:
    """A client's words on one short line, without what a log may not hold."""
    words = re.sub(r'\?[^\s"]*', "", " ".join(str(error).split()))  # the query of a signed address is a credential
    words = re.sub(r"//[^/\s]*@", "//", words)  # and so is the user of a server's
    for secret in (os.environ.get(variable) for variable in _SECRETS):
        words = words.replace(secret, "***") if secret else words
    return "".join(filter(str.isprintable, words))[:200].rstrip(".")


def _ask(source: str, kind: str, what: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as error:
        raise _refusal(error, source, kind, what) from None


def _modelscope_listing(repo: str, kind: str, revision: str) -> tuple[list[HubFile], str]:
    """The files, and the commit of the newest of them where the hub lists the same files under it."""
    client = _client("modelscope").legacy
    from modelscope_hub import HubError

    def listed(at: str) -> tuple[list[HubFile], list[dict[str, Any]]]:
        there = [f for f in client.list_repo_files(repo, _type(kind), at) if f.get("Type") != "tree"]
        return [HubFile(f["Path"], f.get("Size") or None, f.get("Sha256") or None) for f in there], there

    files, there = listed(revision)
    newest: dict[str, Any] = max(there, key=lambda f: f.get("CommittedDate") or 0, default={})
    commit = str(newest.get("Revision"))
    with suppress(HubError):
        if re.fullmatch(r"[0-9a-f]{40}", commit) and sorted(listed(commit)[0]) == sorted(files):
            return files, commit
    return files, revision


def list_files(source: str, kind: str, repo: str, revision: str) -> tuple[list[HubFile], str]:
    """What a repository (of kind dataset, model, encoder) holds, and the revision as a commit if the hub names one."""
    if source == "s3":
        suffix = ".parquet" if kind == "dataset" else ""
        objects = _ask(source, kind, repo, lambda: bucket.list_objects(repo, suffix))
        if not objects:
            raise UserError(f"{repo} holds no {f'{suffix} file'.strip()}; check {kind}.path.")
        return [HubFile(one.path, one.size, None, one.etag) for one in objects], bucket.digest(objects)
    if source == "modelscope":
        return _ask(source, kind, repo, lambda: _modelscope_listing(repo, kind, revision))
    settings = {"repo_type": _type(kind), "revision": revision, "files_metadata": True, "timeout": SECONDS}
    info = _ask(source, kind, repo, lambda: _client(source).repo_info(repo, **settings))
    files = [HubFile(f.rfilename, f.size, f.lfs.sha256 if f.lfs else None) for f in info.siblings or []]
    return files, info.sha or revision


def _wrong(path: Path, file: HubFile) -> str:
    """What differs between the file at `path` and what the hub states; empty where nothing does."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} bytes arrived where the hub states {file.size}"
    if file.sha256:
        with path.open("rb") as bytes_read:
            sha256 = hashlib.file_digest(bytes_read, "sha256").hexdigest()
        if sha256 != file.sha256:
            return f"sha256 {sha256} arrived where the hub states {file.sha256}"
    return ""


def _fetch(source: str, kind: str, repo: str, revision: str, file: HubFile, room: Path) -> Path:
    """Download one file into the folder `room`, its own, and check it; bytes found there are gone on from."""
    what = f"{repo}/{file.path}"
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts or "\\" in file.path:
        raise UserError(
            f"{what} is no path inside a folder; check {f'{kind}.path' if source == 's3' else _keys(kind)[0]}."
        )
    if not file.sha256 and not file.revision:
        shutil.rmtree(room, ignore_errors=True)  # nothing would tell old bytes from new ones
    try:
        got = _try(source, kind, repo, revision, file, room)
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 416 or (type(error) is OSError and not error.errno):  # more bytes than the file has
            shutil.rmtree(room, ignore_errors=True)
        raise _refusal(error, source, kind, what) from None
    wrong = _wrong(got, file)
    if wrong:
        shutil.rmtree(room)
        raise UserError(f"{what}: {wrong}; it was thrown away, so run it again, or list anew if it changed there.")
    return got


def _try(source: str, kind: str, repo: str, revision: str, file: HubFile, room: Path) -> Path:
    if source == "s3":
        return bucket.download(repo, file.path, file.size, revision, room)
    client = _client(source)
    place = {"repo_type": _type(kind), "revision": revision, "local_dir": room}
    if source == "modelscope":
        stated = {"file_size": file.size, "expected_sha256": file.sha256, "cache_dir": room}
        return Path(client.download_file(repo, file_path=file.path, **place, **stated))
    from requests.exceptions import ChunkedEncodingError

    # soon says no; the download waits long
    client.repo_info(repo, repo_type=_type(kind), revision=revision, timeout=SECONDS)
    for _ in range(TRIES - 1):
        with suppress(ChunkedEncodingError):  # a dropped connection, at which this client gives up
            return Path(client.hf_hub_download(repo, file.path, **place))
        time.sleep(1)
    return Path(client.hf_hub_download(repo, file.path, **place))


@contextmanager
def _room(out: Path) -> Iterator[Path]:
    """The folder beside `out` that keeps a broken download, for one process: an orphan may still be fetching."""
    from filelock import FileLock

    out.parent.mkdir(parents=True, exist_ok=True)
    room = out.with_name(f".{out.name}.partial")
    with FileLock(out.with_name(f".{out.name}.lock")):
        yield room
        shutil.rmtree(room, ignore_errors=True)  # reached only where all went well


def download_file(source: str, repo: str, revision: str, file: HubFile, out: Path) -> None:
    """One file of a data set's repository to `out`. Raises UserError where it cannot be had as the hub states it."""
    with _room(out) as room:
        if not (out.is_file() and file.sha256 and not _wrong(out, file)):
            _fetch(source, "dataset", repo, revision, file, room).replace(out)


def download_model(source: str, repo: str, revision: str, out: Path, *, kind: str = "model") -> None:
    """A model's files to the folder `out`, which appears when all are there, with RECORD beside them.

    `kind`: model, or encoder where the config names it under retrieval.
    """
    with _room(out) as room:
        files, commit = list_files(source, kind, repo, revision)
        if not files:
            raise UserError(f"{source}: {repo}@{revision} holds no file; check {' and '.join(_keys(kind))}.")
        stated = [file.stated() for file in files]
        record = {"source": source, "repo": repo, "revision": revision, "commit": commit, "files": stated}
        if (out / RECORD).is_file() and read_json(out / RECORD) == record:
            return
        rooms = [room / hashlib.sha256(file.path.encode()).hexdigest()[:16] for file in files]
        pairs = zip(files, rooms, strict=True)
        got = [_fetch(source, kind, repo, file.revision or commit, file, place) for file, place in pairs]
        with replacing(out) as temporary:
            for file, path in zip(files, got, strict=True):
                (temporary / file.path).parent.mkdir(parents=True, exist_ok=True)
                path.rename(temporary / file.path)
            write_json(temporary / RECORD, record)
