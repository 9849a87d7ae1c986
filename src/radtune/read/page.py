"""What `radtune serve` shows, in Gradio: `blocks(run, read, folder)`; in English and Chinese, as the reader's browser
or the switch says.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from radtune.data.answers import TAGS
from radtune.data.dicom_pixels import PRESETS, read_dicom
from radtune.data.phantom import encode
from radtune.data.phantom_draw import draw, draw_patient
from radtune.files import UserError
from radtune.images import read as images
from radtune.read.prepare import pictures, quiet
from radtune.read.run import Run, wordings
from radtune.read.serve import LARGEST, WAITING, Read, forget
from radtune.reasons import Reason, Unusable
from radtune.report import reading
from radtune.report.gallery import data_uri, visible
from radtune.report.template import styles
from radtune.report.words import Words, said, t

LANGUAGES = {"English": "en", "中文": "zh"}
EXAMPLES = ((0.1, "hyperdense"), (0.5, "hypodense"), (0.7, "hyperdense"))  # level and density of the phantoms
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Noto Sans CJK SC", "sans-serif"]  # those of the reader's machine
WITHIN = ".radtune.radtune.radtune"  # thrice, to count more than Gradio's styles of tables and headings
LOOKS = """
footer { display: none !important; } #language { align-self: flex-end; width: auto; }
.gradio-container { overflow: clip !important; } #notice { position: sticky; top: 0; z-index: 9; } /* always in view */
.radtune.radtune.radtune {
  --paper: var(--body-background-fill);
  h1 { font-size: 1.6rem; margin: 0 0 .8rem; } .lead { margin: 0; }
  .loud { margin: 0; max-width: none; padding: .4rem .8rem; } .chosen { max-width: 14rem; }
  table, tr, th, td { border-width: 0; } th, td { border-bottom: 1px solid var(--rule); } table { margin: 0; }
  .card.reading { grid-template-columns: minmax(0, 20rem) minmax(0, 1fr); } .record th { white-space: normal; }
  @media screen and (max-width: 60rem) { .card.reading { grid-template-columns: minmax(0, 1fr); } }
}
"""
MINUTES = 30  # that an image stays in memory

Chosen = dict[str, Any]  # data, uri, dicom, frames


def blocks(run: Run, read: Read, folder: Path) -> gr.Blocks:
    """The page. `read` answers; `folder` is where Gradio puts uploads."""
    asked = list(wordings(run.train, None))
    examples = [example(n) for n in range(len(EXAMPLES))]
    theme = gr.themes.Base(primary_hue="blue", font=FONTS, font_mono=["ui-monospace", "monospace"])
    head = f"{styles('reading.css', within=WITHIN)}<style>{LOOKS}</style>"
    page: gr.Blocks
    with gr.Blocks(title="radtune", theme=theme, head=head, analytics_enabled=False, fill_width=True) as page:
        chosen = gr.State(None, time_to_live=60 * MINUTES)
        shown = gr.State({}, time_to_live=60 * MINUTES)  # language: HTML
        language = gr.Radio(list(LANGUAGES.items()), value="en", show_label=False, container=False, elem_id="language")
        top = gr.HTML(padding=False)
        notice = gr.HTML(padding=False, elem_id="notice")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                upload = gr.File(height=150, elem_id="upload")
                trial = gr.Markdown()
                with gr.Row():
                    buttons = [gr.Button(size="sm", min_width=80) for _ in examples]
                preview = gr.HTML(padding=False, elem_id="preview")
                window = gr.Dropdown(["header", *PRESETS], value="header", visible=False)
                frame = gr.Slider(1, 2, value=1, step=1, visible=False)
                tasks = gr.CheckboxGroup([], value=asked, elem_id="tasks")
                go = gr.Button(variant="primary", elem_id="read")
            with gr.Column(scale=3, min_width=320):
                result = gr.HTML(padding=False, elem_id="result", min_height=120)
        told = [top, notice, upload, trial, *buttons, window, frame, tasks, go, result]

        def speak(of: str, html: dict[str, str]) -> list[Any]:
            choices = [(_in(reading.TASKS[tag], of), tag) for tag in asked]
            return [
                _head(run, of),
                _own(f'<p class="loud"><b>{_in(t("Research use, not for diagnosis."), of)}</b></p>'),
                gr.update(label=_in(t("Image or DICOM, up to {n} MiB", n=LARGEST // 2**20), of)),
                _in(t("Or take a drawn example:"), of),
                *(gr.update(value=_in(t("Example {n}", n=n), of)) for n in range(1, len(examples) + 1)),
                gr.update(label=_in(t("Window of DICOM"), of)),
                gr.update(label=_in(t("Frame"), of)),
                gr.update(choices=choices, label=_in(t("Tasks"), of)),
                gr.update(value=_in(t("Read"), of)),
                html.get(of, ""),
            ]

        def hello(request: gr.Request) -> list[Any]:
            wanted = request.query_params.get("lang") or request.headers.get("accept-language", "")
            of = "zh" if wanted.startswith("zh") else "en"
            return [of, *speak(of, {})]

        def choose(data: bytes, of: str) -> list[Any]:
            """An image takes the place of the one before, and of what was said of it."""
            try:
                found: Chosen | None = look(data)
            except Unusable as error:
                found, why = None, _sentence(said(error.reason.sentence), of)
            except Exception as error:
                found, why = None, _crash(error, of)
            frames = found["frames"] if found else 1
            first = gr.update(value=1, maximum=max(2, frames), visible=frames > 1)
            drawn = _framed(found["uri"]) if found else why
            return [found, drawn, gr.update(visible=bool(found and found["dicom"])), first, {}, ""]

        def dropped(path: str, of: str) -> list[Any]:
            try:
                data = Path(path).read_bytes()
            except OSError:
                data = b""
            finally:
                forget(folder, path)
            return [None, *choose(data, of)]

        def answer(image: Chosen | None, tags: list[str], window: str, frame: float, of: str) -> tuple[Any, str]:
            if image is None or not tags:
                return {}, _sentence(t("Choose an image and one task at least."), of)
            try:
                found, uri = read(image["data"], [tag for tag in TAGS if tag in tags], window, int(frame))
                both = {
                    each: _own(reading.card(found, uri, each, run.folder / "images")) for each in LANGUAGES.values()
                }
                return both, both[of]
            except UserError as error:
                return {}, _sentence(str(error), of)
            except Exception as error:  # its text may quote the image's header
                return {}, _crash(error, of)

        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_name": False}
        picked = [chosen, preview, window, frame, shown, result]
        page.load(hello, None, [language, *told], **quick)
        language.input(speak, [language, shown], told, **quick)
        upload.upload(dropped, [upload, language], [upload, *picked], **quick)
        for button, data in zip(buttons, examples, strict=True):
            button.click(_bound(choose, data), [language], picked, **quick)
        asking = [chosen, tasks, window, frame, language]
        go.click(answer, asking, [shown, result], api_name=False, concurrency_limit=1, show_progress_on=result)
    page.queue(default_concurrency_limit=1, max_size=WAITING, status_update_rate=1)
    return page


def look(data: bytes) -> Chosen:
    """What a file holds: its first frame as a picture, whether it is DICOM, its number of frames; raises Unusable."""
    import tempfile

    if len(data) > LARGEST:
        raise Unusable(Reason.IMAGE_TOO_LARGE)
    with tempfile.TemporaryDirectory() as name, quiet():
        file = Path(name) / "image"
        file.write_bytes(data)
        first, dicom = next(pictures(file, "header"))
        header = read_dicom(file, pixels=False) if dicom else None
        frames = int(header.get("NumberOfFrames") or 1) if header is not None else 1
    uri = data_uri(Image.fromarray(images.decode(first).pixels))
    return {"data": data, "uri": uri, "dicom": dicom, "frames": frames}


def example(number: int, seed: int = 7) -> bytes:
    """A head-CT phantom, encoded as in the demo's data: nobody's image."""
    rng = np.random.default_rng([number, seed])
    level, density = EXAMPLES[number]
    return encode(draw(draw_patient(rng), level, rng, density=density))


def _head(run: Run, of: str) -> str:
    by = t("Read an image with {experiment} of {run}", experiment=run.experiment, run=run.folder.name)
    more = t("A model writes the answers; no physician has seen them. Nothing of an image is kept.")
    return _own(f'<h1>{html.escape(visible(_in(by, of)))}</h1><p class="lead">{_in(more, of)}</p>')


def _in(words: str, of: str) -> str:
    return words.zh if isinstance(words, Words) and of == "zh" else str(words)


def _sentence(words: str, of: str) -> str:
    return _own(f'<p class="cautions" role="alert">{html.escape(visible(_in(words, of)))}</p>')


def _crash(error: Exception, of: str) -> str:
    kind = type(error).__name__
    print(f"radtune: a request failed ({kind}).", file=sys.stderr, flush=True)
    return _sentence(t("This image could not be read ({kind}); others can.", kind=kind), of)


def _framed(uri: str) -> str:
    return _own(f'<div class="frame chosen"><img src="{uri}" alt=""></div>')


def _own(markup: str) -> str:
    """In the page's own styles."""
    return f'<div class="radtune">{markup}</div>'


def _bound(function: Callable[..., list[Any]], data: bytes) -> Callable[[str], list[Any]]:
    return lambda of: function(data, of)
