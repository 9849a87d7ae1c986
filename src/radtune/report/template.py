"""Templates rendered so that nothing from data becomes markup: `render("report.html.j2", title=...)`.

Every value passes `gallery.visible` and Jinja's autoescape; only a chart of `figures`, by `markup`, enters as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from radtune.report.gallery import visible


def render(name: str, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """The template `name` filled with `values`; a value that a template names and nobody gives is an error."""
    import jinja2
    from markupsafe import Markup

    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("radtune.report"),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"words": lambda text: text.replace("_", " "), "count": lambda n: f"{n:,}", **(filters or {})}
    return pages.get_template(name).render(markup=Markup, **values)
