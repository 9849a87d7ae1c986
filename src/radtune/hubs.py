"""Hugging Face and ModelScope: list a data set's files, and download a file or a model whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from radtune.files import UserError, replacing

Listing = list[tuple[str, int | None, str | None]]
T = TypeVar("T")


def _ask(hub: str, what: str, call: Callable[[], T]) -> T:
    """`call`, with every failure of the hub or the network as one sentence."""
    try:
        return call()
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{hub} did not give {what} ({reason[0]}); check the name, revision and connection.") from None


def list_files(source: str, repo: str, revision: str) -> tuple[Listing, str]:
    """[(path, size in bytes, sha256)] of a data set's repository, and the revision, as a commit if the hub can."""
    if source == "huggingface":
        from huggingface_hub import HfApi

        info = _ask(source, repo, lambda: HfApi().dataset_info(repo, revision=revision, files_metadata=True))
        files = info.siblings or []
        return [(f.rfilename, f.size, f.lfs.sha256 if f.lfs else None) for f in files], info.sha or revision
    from modelscope.hub.api import HubApi

    api: Any = HubApi()
    there = _ask(source, repo, lambda: api.get_dataset_files(repo, revision=revision, recursive=True))
    return [(f["Path"], f.get("Size"), f.get("Sha256")) for f in there if f.get("Type") != "tree"], revision


def download_file(source: str, repo: str, revision: str, path: str, out: Path) -> None:
    """One file of a data set's repository to `out`; a broken download goes on where it stopped."""
    partial = out.parent / ".partial"  # beside the output, so that a rerun resumes it
    if source == "huggingface":
        from huggingface_hub import hf_hub_download

        got = _ask(
            source,
            f"{repo}/{path}",
            lambda: hf_hub_download(repo, path, repo_type="dataset", revision=revision, local_dir=partial),
        )
    else:
        from modelscope import dataset_snapshot_download

        folder = _ask(
            source,
            f"{repo}/{path}",
            lambda: dataset_snapshot_download(repo, revision=revision, allow_patterns=[path], local_dir=str(partial)),
        )
        got = str(Path(folder) / path)
    Path(got).replace(out)


def download_model(source: str, repo: str, revision: str, out: Path) -> None:
    """A model's files to the folder `out`, which appears when all are there."""
    partial = out.with_name(f".{out.name}.partial")
    if source == "huggingface":
        from huggingface_hub import snapshot_download

        _ask(source, repo, lambda: snapshot_download(repo, revision=revision, local_dir=partial))
    else:
        from modelscope import snapshot_download as modelscope_snapshot

        _ask(source, repo, lambda: modelscope_snapshot(repo, revision=revision, local_dir=str(partial)))
    with replacing(out) as temporary:
        partial.rename(temporary)
