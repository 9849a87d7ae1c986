"""Templates rendered so that nothing from data becomes markup: `render("report.html.j2", title=...)`.

Every value passes `gallery.visible` and Jinja's autoescape; only a chart of `figures`, by `markup`, enters as it is.
Words of `words.t` bring their Chinese along in `data-zh`, for report.js to show.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from radtune.report.gallery import visible
from radtune.report.words import Words, said, t


def styles(*names: str, within: str) -> str:
    """The report's styles and those of `names`, for a part of somebody else's page: the elements under `within`."""
    folder = Path(__file__).with_name("templates")
    css = "\n".join((folder / name).read_text(encoding="utf-8") for name in ("report.css", *names))
    return f"<style>\n{within} {{\n{css.replace(':root {', '& {')}\n}}\n</style>"


def render(
    name: str, filters: Mapping[str, Callable[..., Any]] | None = None, language: str = "both", **values: Any
) -> str:
    """The template `name` filled with `values`; a value that a template names and nobody gives is an error.

    `language`: both, for report.js to choose, or en or zh alone.
    """
    import jinja2
    from markupsafe import Markup

    def show(value: Any) -> Any:
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        if isinstance(value, Words) and language == "zh":
            return visible(value.zh)
        if isinstance(value, Words) and value.zh != value and ".html" in name and language == "both":
            return Markup('<span data-zh="{}">{}</span>').format(visible(value.zh), visible(value))
        return visible(value)

    def label(text: Words, of: str = "aria-label") -> str:
        """An attribute in both languages, as no span can stand in one; of "text", the Chinese of a bare text."""
        if language != "both":
            return Markup('{}="{}"').format(of, visible(text.zh if language == "zh" else text))
        chinese = Markup('data-zh="{}"').format(visible(text.zh))
        return chinese if of == "text" else Markup('{0}="{1}" data-of="{0}" {2}').format(of, visible(text), chinese)

    loader = jinja2.PackageLoader("radtune.report")
    pages = jinja2.Environment(
        loader=loader,
        autoescape=True,
        finalize=show,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"words": lambda text: text.replace("_", " "), "count": lambda n: f"{n:,}", **(filters or {})}
    script, _, _ = loader.get_source(pages, "report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pages.globals |= {"t": t, "said": said, "label": label, "markup": Markup}
    pages.globals |= {"script": Markup(script), "script_hash": Markup(digest)}
    return pages.get_template(name).render(**values)
