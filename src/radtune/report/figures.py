"""Charts as inline SVG, drawn by matplotlib in the page's own colours, so that they follow light and dark.

Each has a title and its figures as a description for who cannot see it. Labels from data pass `gallery.visible` first;
those that are `words.Words` carry their Chinese along, as everywhere on a page.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from radtune.report.words import Words, join, t

# matplotlib writes colours as hex; each of these stand-ins becomes a CSS variable of the page.
_COLOURS = {
    "ink": "#00000a",
    "muted": "#00000b",
    "rule": "#00000c",
    "model": "#00000d",
    "floor": "#00000e",
    "base": "#00000f",
}
_WIDE, _FULL = 4.4, {"left": 0, "right": 1, "bottom": 0, "top": 1}  # inches, of which the axes take all


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
        figure, axes = pyplot.subplots(figsize=(3.8, 0.75 + 0.36 * len(marks)))
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
        values = (t("{label} {value:.1f}", label=mark.label, value=mark.value) for mark in marks)
        return _svg(figure, name, join(values), [mark.label for mark in marks])


def loss_chart(
    name: str, train: Sequence[tuple[float, float]], evaluation: Sequence[tuple[float, float]], top: float
) -> str:
    """(step, loss) of training and evaluation on a scale from 0 to `top`, one scale for every experiment."""
    pyplot, style = _matplotlib(name)
    with pyplot.rc_context(style | {"ytick.labelcolor": _COLOURS["muted"]}):
        figure, axes = pyplot.subplots(figsize=(4.4, 2.6))
        names = t("train"), t("eval"), t("step"), t("loss")
        curves = [c for c in ((train, "model", names[0], ""), (evaluation, "floor", names[1], "D")) if c[0]]
        # Each curve is named at its end, the lower one below, so that names of close curves do not collide.
        for place, (points, kind, label, shape) in enumerate(sorted(curves, key=lambda curve: curve[0][-1][1])):
            steps, losses = zip(*points, strict=True)
            colour, end, va = _COLOURS[kind], points[-1], "bottom" if place else "top"
            axes.plot(steps, losses, color=colour, linewidth=1.6, marker=shape, markersize=4.5)
            axes.annotate(label, end, (7, 0), textcoords="offset points", va=va, color=colour)
        axes.set_ylim(0, top)
        axes.set_xlim(left=0)
        axes.set_xlabel(names[2])
        axes.set_ylabel(names[3])
        axes.grid(axis="y")
        counted = t("{train:,} training and {eval:,} evaluation points", train=len(train), eval=len(evaluation))
        return _svg(figure, t("Loss of {name}", name=name), counted, names)


def confusion(name: str, truths: Sequence[str], answers: Sequence[str], counts: npt.NDArray[Any]) -> str:
    """How often each of `truths` (rows) was answered by each of `answers` (columns), in percent of its row.

    What is right is framed; a row without samples stays empty.
    """
    pyplot, style = _matplotlib(name)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with pyplot.rc_context(style | {"xtick.labelcolor": _COLOURS["ink"], "xtick.major.size": 0}):
        figure, axes = pyplot.subplots(figsize=(1.1 + 0.62 * len(answers), 0.9 + 0.44 * len(truths)))
        for (row, column), share in np.ndenumerate(shares):
            right = truths[row] == answers[column]
            axes.add_patch(
                pyplot.Rectangle(
                    (column - 0.48, row - 0.47), 0.96, 0.94, alpha=share / 125, color=_COLOURS["model"], lw=0
                )
            )
            if right:
                frame = {"fill": False, "edgecolor": _COLOURS["ink"], "linewidth": 1.2}
                axes.add_patch(pyplot.Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, **frame))
            if counts[row, column]:
                weight = "bold" if right else "normal"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=_COLOURS["ink"], weight=weight)
        axes.set_xticks(range(len(answers)), [answer.replace("-", "-\n") for answer in answers])
        rows = [t("{label} ({n:,})", label=truth, n=n) for truth, n in zip(truths, counts.sum(axis=1), strict=True)]
        axes.set_yticks(range(len(truths)), rows)
        axes.set_xlim(-0.5, len(answers) - 0.5)
        axes.set_ylim(len(truths) - 0.5, -0.5)
        axes.set_xlabel(said := t("answered, % of the row"))
        axes.spines["bottom"].set_visible(False)
        described = (
            t(
                "{truth}: {answers}",
                truth=truth,
                answers=join((t("{label} {n:,}", label=a, n=n) for a, n in zip(answers, row, strict=True)), ", "),
            )
            for truth, row in zip(rows, counts, strict=True)
        )
        words = t("Reference, then answers: {counts}", counts=join(described))
        return _svg(figure, name, words, [*answers, *rows, said])


def bar_chart(
    name: str,
    bars: Sequence[tuple[str, Sequence[float]]],
    parts: Sequence[str] = ("",),
    number: Callable[[float], str] = "{:,}".format,
) -> str:
    """Counts as horizontal bars, label and numbers above; each is made of up to three `parts` that lie end to end."""
    pyplot, style = _matplotlib(name)
    colours = [_COLOURS[kind] for kind in ("model", "floor", "base")][: len(parts)]
    split = len(parts) > 1
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(_WIDE, 0.38 * (len(bars) + split * 0.8)), gridspec_kw=_FULL)
        widest = max((sum(counts) for _, counts in bars), default=1) or 1
        for row, (label, counts) in enumerate(bars):
            starts = np.cumsum([0, *counts])
            axes.barh([row] * len(parts), counts, left=starts[:-1], height=0.3, color=colours)
            numbers = " + ".join(map(number, counts)) + (f" = {number(starts[-1])}" if split else "")
            axes.text(0, row - 0.26, label, color=_COLOURS["ink"])
            axes.text(widest, row - 0.26, numbers, ha="right", color=_COLOURS["ink"])
        for place, (part, colour) in enumerate(zip(parts, colours, strict=True)):
            axes.text(widest * place * 0.25, -1.1, part, color=colour, weight="bold")
        axes.set_ylim(len(bars) - 0.8, -0.75 - 0.8 * split)
        axes.set_xlim(0, widest)
        axes.set_axis_off()
        described = (
            f"{label}: " + ", ".join(f"{part} {number(n)}".strip() for part, n in zip(parts, counts, strict=True))
            for label, counts in bars
        )
        return _svg(figure, name, "; ".join(described))


def spread_chart(name: str, values: Mapping[str, npt.NDArray[Any]], unit: str) -> str:
    """How `values` (a one-dimensional array a label) are spread: a histogram a row on one scale, its median marked.

    The scale ends at the highest 99th percentile, so that one outlier does not press the rest together; what lies
    beyond stands in the last bin.
    """
    pyplot, style = _matplotlib(name)
    described: list[Words] = []
    labels = [unit]
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(_WIDE, 0.6 * max(len(values), 1.6)), gridspec_kw=_FULL)
        top = max((float(np.percentile(v, 99)) for v in values.values()), default=1.0) * 1.05 or 1.0
        edges = np.linspace(0, top, 85)
        for row, (label, found) in enumerate(values.items()):
            heights = np.histogram(np.minimum(found, top), edges)[0]
            low, median, high = np.percentile(found, (5, 50, 95))
            shape = row - 0.58 * heights / heights.max()
            axes.stairs(shape, edges, baseline=row, fill=True, color=_COLOURS["model"], linewidth=0)
            axes.plot([median, median], [row, row - 0.6], color=_COLOURS["ink"], linewidth=1.2)
            axes.text(0, row - 0.68, label, color=_COLOURS["ink"])
            middle = t("median {value}", value=_figures(median))
            axes.text(top, row - 0.68, middle, ha="right", color=_COLOURS["ink"])
            labels += [label, middle]
            described.append(
                t(
                    "{label} {n:,} values, {median}, 5th to 95th percentile {low} to {high}",
                    label=label,
                    n=len(found),
                    median=middle,
                    low=_figures(low),
                    high=_figures(high),
                )
            )
        axes.set_yticks([])
        axes.set_ylim(len(values) - 0.96, -0.95)
        axes.set_xlim(0, top)
        axes.set_xlabel(unit)
        return _svg(figure, name, t("In {unit}: {values}", unit=unit, values=join(described)), labels)


def _figures(value: float) -> str:
    """A number as a person writes it: two decimals below ten, none from a hundred on."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}".removesuffix(".0").removesuffix(".00")


CELLS = 5  # a side: the words left, left-center, central, right-center, right, and upper to bottom


def heat_map(name: str, centres: npt.NDArray[Any], behind: str) -> str:
    """Where `centres` (n x 2: x and y as fractions of the picture) lie, in 25 x 25 cells over the picture `behind`.

    `behind` is a data URI. Lines and shares are those of the 5 x 5 cells that the location words name.
    """
    fine = CELLS * 5
    x, y = np.clip(centres, 0, 1 - 1e-9).T
    counts = np.histogram2d(y, x, bins=fine, range=[[0, 1], [0, 1]])[0]
    coarse = counts.reshape(CELLS, 5, CELLS, 5).sum(axis=(1, 3)) * 100 / max(1, len(centres))
    side, wide = 100 / fine, 100 / CELLS
    cells = "".join(
        f'<rect x="{column * side:g}" y="{row * side:g}" width="{side:g}" height="{side:g}" '
        f'fill-opacity="{0.15 + 0.75 * (counts[row, column] / counts.max()) ** 0.5:.2f}"/>'
        for row, column in np.argwhere(counts)
    )
    lines = "".join(f"M{i * wide:g} 0V100M0 {i * wide:g}H100" for i in range(1, CELLS))
    shares = "".join(
        f'<text x="{(column + 0.5) * wide:g}" y="{(row + 0.5) * wide + 1.5:g}">{coarse[row, column]:.0f}%</text>'
        for row, column in np.argwhere(coarse >= 0.5)
    )
    described = "Share of the centres in percent, from upper to bottom, each from left to right: " + "; ".join(
        ", ".join(f"{share:.1f}" for share in row) for row in coarse
    )
    image = (
        f'<image href="{html.escape(behind)}" width="100" height="100" preserveAspectRatio="none"/>' if behind else ""
    )
    return (
        f'<svg role="img" class="heat" viewBox="0 0 100 100">{_words(name, described)}'
        f'<rect class="ground" width="100" height="100"/>{image}<g class="cells">{cells}</g>'
        f'<path class="grid" d="{lines}"/><g class="shares">{shares}</g></svg>'
    )


def cell_map(name: str, values: npt.NDArray[Any], counts: npt.NDArray[Any]) -> str:
    """`values` (0 to 100) in CELLS x CELLS cells of the picture, the darker the higher, over numbers of samples."""
    pyplot, style = _matplotlib(name)
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(3.6, 3.6), gridspec_kw=_FULL)
        for (row, column), n in np.ndenumerate(counts):
            if n:
                shade = {"alpha": values[row, column] / 125, "color": _COLOURS["model"], "lw": 0}
                axes.add_patch(pyplot.Rectangle((column, row), 1, 1, **shade))
                at = {"ha": "center", "va": "center"}
                axes.text(column + 0.5, row + 0.42, f"{values[row, column]:.0f}", color=_COLOURS["ink"], **at)
                axes.text(column + 0.5, row + 0.74, f"{n:,.0f}", color=_COLOURS["ink"], size=7.5, **at)
        for draw in (axes.hlines, axes.vlines):
            draw(range(CELLS + 1), 0, CELLS, color=_COLOURS["rule"], linewidth=0.8, clip_on=False)
        axes.set_xlim(0, CELLS)
        axes.set_ylim(CELLS, 0)
        axes.set_axis_off()
        rows = (
            join((f"{value:.0f} ({n:,.0f})" if n else "–" for value, n in zip(*row, strict=True)), ", ")
            for row in zip(values, counts, strict=True)
        )
        return _svg(figure, name, t("From upper to bottom, each from left to right: {rows}", rows=join(rows)))


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


def _svg(figure: Any, name: str, description: str, labels: Iterable[str] = ()) -> str:
    """The figure as SVG; those of its `labels` that are Words can be shown in Chinese."""
    from matplotlib import pyplot

    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", bbox_inches="tight", pad_inches=0.06, transparent=True, metadata={"Date": None}
    )
    pyplot.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour_name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{colour_name})")
    for label in sorted(set(labels), key=len, reverse=True):  # a short one may be a line of a long one
        if isinstance(label, Words):
            svg = _with_chinese(svg, label)
    svg = svg.replace("<svg ", '<svg role="img" ', 1)
    end_of_tag = svg.index(">") + 1
    return svg[:end_of_tag] + _words(name, description) + svg[end_of_tag:]


def _words(name: str, description: str) -> str:
    return "".join(
        f"<{tag}{_chinese(text)}>{html.escape(text)}</{tag}>" for tag, text in (("title", name), ("desc", description))
    )


def _chinese(text: str) -> str:
    return f' data-zh="{html.escape(text.zh)}"' if isinstance(text, Words) else ""


def _with_chinese(svg: str, label: Words) -> str:
    """The label's texts with their Chinese; of one that was broken at its hyphen, the first line has it all."""
    whole = html.escape(label, quote=False)
    lines = [whole] if f">{whole}</text>" in svg else whole.replace("-", "-\n").split("\n")
    texts = (rf"(<text(?:(?!data-zh)[^>])*)>{re.escape(line)}</text>" for line in lines)

    def both(found: re.Match[str]) -> str:
        chinese = [html.escape(label.zh), *[""] * len(lines)]
        parts = zip(found.groups(), chinese, lines, strict=False)
        return "".join(f'{tag} data-zh="{zh}">{line}</text>' for tag, zh, line in parts)

    return re.sub(r"\s*".join(texts), both, svg)
