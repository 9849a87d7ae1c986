"""A page on which an image is dropped and read by a finished run: `radtune serve --run results/demo`.

It listens on this machine alone unless told otherwise, asks nothing of any other, and keeps nothing: an upload is held
in memory and its file removed at once, or after minutes where its visitor has left; what a reading needs on disk lies
in a private folder until it is done.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from radtune.files import UserError, read_json, read_jsonl, remove, write_json
from radtune.read.run import Run, find

LARGEST = 64 * 2**20  # bytes of an upload; a larger one is refused before it is looked at
WAITING = 20  # visitors in the queue
ABANDONED, SWEEP = 300, 10  # seconds after which an upload that nobody reads is removed, and between two looks for such
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
_FOREIGN = re.compile(rb"<(?:script|link|meta)[^>]*https://[^>]*>(?:\s*</script>)?")  # of Gradio's own page

Read = Callable[[bytes, list[str], str, int], tuple[dict[str, Any], str | None]]
Message = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]


def serve(*, run: Path | None = None, experiment: str | None = None, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Show a page that reads images with a finished run. For research; not for diagnosis.

    Parameters
    ----------
    run
        The run's results folder; the newest under results/ that has an adapter.
    experiment
        Any of its experiments, base for the untuned model; the first that was tuned.
    host
        The address to listen on. Whoever can reach another than this machine's own can use the page: it asks for no
        password.
    port
        0 for a free one.
    """
    found = find(run, experiment)
    with listening(host, port) as (sock, address), private_folder() as folder:
        import fastapi
        import gradio
        import uvicorn

        from radtune.read.page import blocks

        own_folders()
        keep_sweeping(folder)
        page = blocks(found, reader(found, folder), folder)
        app = gradio.mount_gradio_app(
            fastapi.FastAPI(openapi_url=None), page, path="/", max_file_size=LARGEST, show_api=False, show_error=False
        )
        print(f"{found.experiment} of {found.folder} reads at {address}; Ctrl-C ends it.", flush=True)
        config = uvicorn.Config(guarded(app), log_level="error", access_log=False, timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[sock])


@contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A bound socket and its address for a browser; warns where other machines can reach it. Raises UserError."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --port or --host."
        ) from None
    if not ip_address(where[0]).is_loopback:
        warning = f"warning: every machine that can reach {host} can use this page; it asks for no password."
        print(warning, file=sys.stderr)
    with sock:
        yield sock, f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"


@contextmanager
def private_folder() -> Iterator[Path]:
    """The folder for all that is written to disk, gone at the end, also where the process is told to end."""

    def end(*_: object) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    with tempfile.TemporaryDirectory(prefix="radtune-serve-", ignore_cleanup_errors=True) as name:
        os.environ |= {"GRADIO_TEMP_DIR": f"{name}/uploads", "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
        tempfile.tempdir = name  # of Gradio's and of the server's own temporary files
        try:
            yield Path(name)
        except KeyboardInterrupt:
            pass
        finally:
            tempfile.tempdir = None


def reader(found: Run, folder: Path) -> Read:
    """Load the model, once; a function of an image's bytes, tags, DICOM window and frame to a reading of that frame, as
    in reading.json, and the picture as a data URI. It raises Unusable and UserError.
    """
    import yaml

    from radtune import gpu
    from radtune.predict.answers import Answer, Record, answer_all
    from radtune.predict.generate import encode, generate, load, under_schemas
    from radtune.read.prepare import prepare
    from radtune.read.write import reading
    from radtune.report.gallery import picture
    from radtune.schemas import schemas

    settings = yaml.safe_load(found.config.read_text(encoding="utf-8"))
    limits = {key: found.generation[key] for key in ("image_max_pixels", "image_min_pixels")}
    memory = found.generation["gpu_memory_gib"]
    device = gpu.claim(1, memory)
    model, processor = load(found.model, found.adapter, device, found.generation["cache"])
    most = found.generation["max_new_tokens"]
    forms = schemas(found.box) if found.generation.get("valid_records") else {}
    constrained = under_schemas(model, processor, forms, most)
    add_cases = _case_finder(found, device) if found.similar else None

    def read(data: bytes, tasks: list[str], window: str, frame: int) -> tuple[dict[str, Any], str | None]:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            prepared, asked = Path(name) / "prepared", Path(name) / "prepared" / "questions.json"
            (Path(name) / "image").write_bytes(data)
            prepare(Path(name) / "image", out=prepared, train=found.train, tasks=tasks, window=window, **found.recipe)
            told = read_json(prepared / "files.json")
            told["images"] = [told["images"][frame - 1] | {"file": ""}]
            write_json(asked, [one for one in read_json(asked) if one["id"] == told["images"][0]["id"]])

            def answers(waiting: list[Record]) -> Iterator[list[tuple[Record, Answer]]]:
                samples = [(record, encode(processor, record, prepared, **limits)) for record in waiting]
                size = found.generation["batch_size"]
                with gpu.explained(memory, lambda _: "take a smaller image or fewer tasks"):
                    yield from generate(model, processor, samples, most, size, memory, constrained)

            similar: dict[str, Any] = {}
            if add_cases:
                add_cases(prepared, Path(name) / "similar")
                similar = read_json(Path(name) / "similar" / "cases.json")
                asked = Path(name) / "similar" / "questions.json"
            out = Path(name) / "predictions.jsonl"
            answer_all(answers, asked, prepared, out, chunk="1-of-1", settings=[], models=[])
            result = reading(told, read_jsonl(out), settings, found.experiment, found.evaluation, similar)
            return result, picture(prepared / "originals", f"{told['images'][0]['id']}.png")

    return read


def _case_finder(found: Run, device: str) -> Callable[[Path, Path], None]:
    """Load the encoder of the similar cases, once; a function of a prepared folder and the one to write."""
    from radtune.predict.embed_images import Floats, embed, load_encoder
    from radtune.read.cases import add_similar

    settings = dict(found.similar or {})
    limits = {key: settings.pop(key) for key in ("image_max_pixels", "image_min_pixels")}
    model, processor = load_encoder(settings.pop("encoder"), device)

    def vectors(pictures: list[Any]) -> Floats:
        return embed(pictures, model, processor, **limits)

    def add(prepared: Path, out: Path) -> None:
        add_similar(prepared, train=found.train, out=out, vectors=vectors, **settings)

    return add


def own_folders() -> None:
    """Have Gradio put each upload into a folder of its own: by content, as it does, two visitors would share one."""
    import hashlib

    from gradio import route_utils

    class Upload(route_utils.GradioUploadFile):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.sha = hashlib.sha256(os.urandom(32))

    route_utils.GradioUploadFile = Upload  # type: ignore[misc]


def forget(folder: Path, path: str) -> None:
    """Remove an upload, with the folder that Gradio made for it."""
    uploads = folder / "uploads"
    if Path(path).is_relative_to(uploads):
        shutil.rmtree(uploads / Path(path).relative_to(uploads).parts[0], ignore_errors=True)


def keep_sweeping(folder: Path) -> None:
    """sweep() again and again, in the background."""

    def work() -> None:
        while True:
            sweep(folder)
            time.sleep(SWEEP)

    threading.Thread(target=work, daemon=True).start()


def sweep(folder: Path) -> None:
    """Remove what nobody will ask for: uploads whose tab was closed, broken off ones, and Gradio's own empty files.

    Nothing is touched that was written to in the last ABANDONED seconds, nor any reading's own folder.
    """
    for path in [*(path for path in folder.glob("tmp*") if path.is_file()), *folder.glob("uploads/*")]:
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - ABANDONED:
                remove(path)


def guarded(app: App) -> App:
    """`app` with headers that keep a browser to this server, and with its page freed of what names others."""

    async def wrapped(scope: Message, receive: Any, send: Any) -> None:
        start: list[Message] = []
        body: list[bytes] = []

        async def pass_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name != b"content-length"]
                page = any(name == b"content-type" and value.startswith(b"text/html") for name, value in kept)
                added = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                if page:
                    start.append({**message, "headers": kept + added})
                    return
                message["headers"] = list(message["headers"]) + added
            elif start:
                body.append(message.get("body", b""))
                if message.get("more_body"):
                    return
                await send(start[0])
                message = {"type": "http.response.body", "body": _FOREIGN.sub(b"", b"".join(body))}
            await send(message)

        await app(scope, receive, pass_on if scope["type"] == "http" else send)

    return wrapped
