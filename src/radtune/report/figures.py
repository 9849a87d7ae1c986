"""Charts as inline SVG, drawn by matplotlib in the page's own colours, so that they follow light and dark."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

# matplotlib writes colours as hex; each of these stand-ins becomes a CSS variable of the page.
_COLOURS = {
    "ink": "#00000a",
    "muted": "#00000b",
    "rule": "#00000c",
    "model": "#00000d",
    "floor": "#00000e",
    "base": "#00000f",
}


class Mark(NamedTuple):
    """One row of a score chart. `kind` is model, base or floor."""

    label: str
    kind: str
    value: float
    interval: tuple[float, float] | None


def score_chart(name: str, marks: Sequence[Mark]) -> str:
    """Scores 0..100 as dots with their intervals, a row each; a dashed line carries every floor through the panel."""
    pyplot, style = _matplotlib(name)
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(4.2, 0.75 + 0.36 * len(marks)))
        for row, mark in enumerate(marks):
            colour = _COLOURS[mark.kind]
            if mark.kind == "floor":
                axes.axvline(mark.value, color=colour, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
            if mark.interval:
                axes.plot(mark.interval, [row, row], color=colour, linewidth=2.5, alpha=0.55, solid_capstyle="round")
            shape = {"floor": "D", "base": "s"}.get(mark.kind, "o")
            axes.plot([mark.value], [row], shape, color=colour, markersize=6.5, zorder=3)
            axes.text(104, row, f"{mark.value:.1f}", va="center", color=_COLOURS["ink"])
        axes.set_yticks(range(len(marks)), [mark.label for mark in marks])
        axes.set_ylim(len(marks) - 0.5, -0.5)
        axes.set_xlim(-1, 101)
        axes.set_xticks(range(0, 101, 25))
        axes.grid(axis="x")
        values = "; ".join(f"{mark.label} {mark.value:.1f}" for mark in marks)
        return _svg(figure, f"{name}: {values}")


def loss_chart(
    name: str, train: Sequence[tuple[float, float]], evaluation: Sequence[tuple[float, float]], top: float
) -> str:
    """(step, loss) of training and evaluation on a scale from 0 to `top`, one scale for every experiment."""
    pyplot, style = _matplotlib(name)
    with pyplot.rc_context(style | {"ytick.labelcolor": _COLOURS["muted"]}):
        figure, axes = pyplot.subplots(figsize=(4.4, 2.6))
        curves = [c for c in ((train, "model", "train", ""), (evaluation, "floor", "eval", "D")) if c[0]]
        # Each curve is named at its end, the lower one below, so that names of close curves do not collide.
        for place, (points, kind, label, shape) in enumerate(sorted(curves, key=lambda curve: curve[0][-1][1])):
            steps, losses = zip(*points, strict=True)
            colour, end, va = _COLOURS[kind], points[-1], "bottom" if place else "top"
            axes.plot(steps, losses, color=colour, linewidth=1.6, marker=shape, markersize=4.5)
            axes.annotate(label, end, (7, 0), textcoords="offset points", va=va, color=colour)
        axes.set_ylim(0, top)
        axes.set_xlim(left=0)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.grid(axis="y")
        return _svg(figure, f"Loss of {name}: {len(train)} training and {len(evaluation)} evaluation points")


def _matplotlib(name: str) -> tuple[Any, dict[str, Any]]:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    return pyplot, {
        "svg.fonttype": "none",  # text stays text: it takes the page's font and can be searched
        "svg.hashsalt": name,  # ids differ between the charts of a page and not between runs
        "text.parse_math": False,
        "font.size": 10,
        "text.color": _COLOURS["ink"],
        "axes.edgecolor": _COLOURS["rule"],
        "axes.labelcolor": _COLOURS["muted"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "grid.color": _COLOURS["rule"],
        "grid.linewidth": 0.8,
        "xtick.color": _COLOURS["rule"],
        "ytick.color": _COLOURS["rule"],
        "xtick.labelcolor": _COLOURS["muted"],
        "ytick.labelcolor": _COLOURS["ink"],
        "ytick.major.size": 0,
        "ytick.major.pad": 9,
    }


def _svg(figure: Any, description: str) -> str:
    from matplotlib import pyplot

    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", bbox_inches="tight", pad_inches=0.06, transparent=True, metadata={"Date": None}
    )
    pyplot.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(description, quote=True)}" ', 1)
