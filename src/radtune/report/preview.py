"""A page to look at before training: pictures before and after with their box, and the data as charts.

    radtune preview --sharegpt DIR --samples-table samples.parquet ... --out index.html

One self-contained page without script or network. A few samples are drawn by the hash of their id, so that the page is
the same in every run; whole tables are read as columns, the ShareGPT files entry by entry, and a shard by row group.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from radtune.files import UserError, write_text
from radtune.frames import Box, Edges, Frame, Letterbox
from radtune.report import figures, gallery
from radtune.report.data_section import data_section
from radtune.report.template import render
from radtune.shards import SPLITS, read_image

CHUNK = 1 << 20  # characters of a ShareGPT file read at once
CANDIDATES = 2000  # rows of a split and tag that are looked at for the one to show
SHOWN = 8  # bars of a chart; the rest is counted together
_LOC = re.compile(r"<loc_(\d{1,3})>")


def write_preview(
    sharegpt: Path,
    *,
    samples_table: Path,
    quarantine: Path,
    leakage: Path,
    checks: Path,
    disagreements: Path,
    images: Path,
    scan: list[Path],
    geometry: list[Path],
    shards: Path,
    media_dir: Path,
    out: Path,
    column: str = "image",
    box: str = "qwen3vl",
    seed: int = 0,
    cleaned: Path | None = None,
) -> None:
    """Write the page: a sample of each split and tag, the counts, and the data section that the report has too.

    `scan` and `geometry` are the tables of every shard; `box` is the form of DETECT_REGION_LOC's answers, as in the
    config's answers.box. `cleaned`, of radtune clean, names samples that the dataset was to be without.
    """
    data = data_section(
        samples_table=samples_table,
        quarantine=quarantine,
        leakage=leakage,
        checks=checks,
        disagreements=disagreements,
    )
    columns = ["shard", "row", "sample", "tag", "split", "group", "image_sha256", "status", "box"]
    rows = pq.read_table(samples_table, columns=columns).rename_columns({"sample": "id"})
    rows = rows.filter(pc.equal(rows["status"], "kept"))
    if cleaned:
        gone = pq.read_table(cleaned, columns=["id", "tag"], filters=[("action", "=", "drop")]).to_pylist()
        dropped = {(row["id"], row["tag"]) for row in gone}
        rows = rows.filter(
            [pair not in dropped for pair in zip(*(rows[n].to_pylist() for n in ("id", "tag")), strict=True)]
        )
    chosen = choose(*(rows[name].to_pylist() for name in ("id", "tag", "split", "group")), seed=seed)
    disputed = _disputed(rows, data["disagreeing"])
    samples = rows.take(chosen + list(disputed.values())).to_pylist()
    entries, lengths = _read_entries(sharegpt, {(sample["id"], sample["tag"]) for sample in samples})
    digests = [sample["image_sha256"] for sample in samples]
    owners, places, looks = (_by_digest(paths, digests) for paths in ([images], geometry, scan))
    cards, originals = [], []
    for sample, digest in zip(samples, digests, strict=True):
        if (entry := entries.get((sample["id"], sample["tag"]))) is None:
            raise UserError(f"{sharegpt} lacks {sample['tag']} of {sample['id']!r}, which {samples_table} keeps.")
        owner = owners[digest]
        before = _open(io.BytesIO(read_image(shards / f"{owner['shard']}.parquet", owner["row"], column)))
        originals.append(before)
        cards.append(_card(sample, entry, before, places[digest], looks[digest], media_dir, box))
    page = render(
        "preview.html.j2",
        dataset=sharegpt.name,
        splits=[(split, [card for card in cards[: len(chosen)] if card["split"] == split]) for split in SPLITS],
        disputed=list(zip(disputed, cards[len(chosen) :], strict=True)),
        charts=_count_charts(rows, samples_table) + _text_charts(lengths) + _image_charts(scan),
        heat=_heat(scan, [image for image in originals if image]),
        data=data,
    )
    write_text(out, page)


# --- which samples --------------------------------------------------------------------------------------------------


def choose(ids: list[str], tags: list[str], splits: list[str], groups: list[str], *, seed: int) -> list[int]:
    """The rows to show, one of each split and tag: the first by a hash of its id in the group that was shown least, of
    about CANDIDATES that lie evenly among the rows.

    The four columns are of equal length; rows come back by split and tag.
    """
    candidates: dict[tuple[str, str], list[tuple[bytes, int]]] = defaultdict(list)
    steps = {pair: 1 + n // CANDIDATES for pair, n in Counter(zip(splits, tags, strict=True)).items()}
    met = dict.fromkeys(steps, 0)
    for row, (sample, tag, split) in enumerate(zip(ids, tags, splits, strict=True)):
        met[split, tag] += 1
        if met[split, tag] % steps[split, tag]:
            continue
        rank = hashlib.blake2b(f"{seed}/{sample}/{tag}".encode(errors="replace"), digest_size=8).digest()
        candidates[split, tag].append((rank, row))
    shown: Counter[str] = Counter()
    chosen = []
    for key in sorted(candidates, key=lambda key: (SPLITS.index(key[0]), key[1])):
        row = min(candidates[key], key=lambda candidate: (shown[groups[candidate[1]]], candidate[0]))[1]
        shown[groups[row]] += 1
        chosen.append(row)
    return chosen


def _disputed(rows: Any, disagreeing: list[dict[str, Any]]) -> dict[tuple[str, str, str], int]:
    """(kind, what the text says, what the pixels say) -> its place in `rows`, for the first kept row of each kind."""
    found: dict[str, tuple[tuple[str, str, str], int]] = {}
    for row in disagreeing:
        there = pc.and_(pc.equal(rows["shard"], row["shard"]), pc.equal(rows["row"], row["row"]))
        if row["kind"] not in found and len(places := pc.indices_nonzero(there)):
            found[row["kind"]] = (row["kind"], row["text_says"], row["pixels_say"]), places[0].as_py()
    return dict(found.values())


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a ShareGPT file one after the other, however it is laid out, without holding the file."""
    decoder, text, place = json.JSONDecoder(), "", 0
    with path.open(encoding="utf-8") as file:
        while chunk := file.read(CHUNK):
            text, place = text[place:] + chunk, 0
            while (start := text.find("{", place)) >= 0:  # only brackets, commas and space lie between entries
                try:
                    entry, place = decoder.raw_decode(text, start)
                except ValueError:  # the entry goes on in the next chunk
                    break
                yield entry
    if "{" in text[place:]:
        raise UserError(f"{path} ends within an entry; write it again.")


def _read_entries(
    folder: Path, wanted: set[tuple[str, str]]
) -> tuple[dict[tuple[str, str], dict[str, Any]], dict[str, array[int]]]:
    """The wanted entries by (id, tag), and the length of every answer by tag in characters."""
    found = {}
    lengths: dict[str, array[int]] = defaultdict(lambda: array("l"))
    for split in SPLITS:
        for entry in read_entries(folder / f"{split}.json"):
            lengths[entry["tag"]].append(len(entry["messages"][1]["content"]))
            if (key := (entry["id"], entry["tag"])) in wanted:
                found[key] = entry
    return found, lengths


def _by_digest(paths: list[Path], digests: list[str]) -> dict[str, dict[str, Any]]:
    """Rows of tables that have one row an image, by image_sha256; each digest has to be there."""
    tables = (pq.read_table(path, filters=[("image_sha256", "in", digests)]) for path in paths)
    found = {row["image_sha256"]: row for table in tables for row in table.to_pylist()}
    if missing := set(digests) - found.keys():
        raise UserError(f"No image {min(missing)} in {', '.join(map(str, paths))}; make them from the same samples.")
    return found


# --- cards ----------------------------------------------------------------------------------------------------------


def _card(
    sample: Mapping[str, Any],
    entry: Mapping[str, Any],
    before: Image.Image | None,
    place: Mapping[str, Any],
    look: Mapping[str, Any],
    media_dir: Path,
    form: str,
) -> dict[str, Any]:
    prompt, answer = (message["content"] for message in entry["messages"])
    path = (media_dir / entry["images"][0]).resolve()
    after = _open(path) if path.is_relative_to(media_dir.resolve()) else None
    boxes: dict[str, Edges] = {}  # in pixels of the original, x2 and y2 exclusive
    if sample["box"]:
        x1, y1, x2, y2 = sample["box"]  # inclusive edges
        boxes["pixels"] = (x1, y1, x2 + 1, y2 + 1)
    if sample["tag"] == "DETECT_REGION_LOC" and (found := answer_box(answer, form, place)):
        boxes["answer"] = found
    size = place["size"]
    moved = {kind: to_letterbox(box, place) for kind, box in boxes.items()}
    return {
        "split": sample["split"],
        "tag": sample["tag"],
        "id": sample["id"],
        "group": sample["group"],
        "prompt": prompt.replace("<image>", "", 1).strip(),
        "answer": gallery.shorten(answer),
        "boxes": list(boxes),
        "pictures": [
            _picture("before", before, (place["width"], place["height"]), look["mode"], boxes),
            _picture("after", after, (size, size), after.mode if after else "", moved),
        ],
    }


def _picture(
    name: str, image: Image.Image | None, size: tuple[int, int], mode: str, boxes: Mapping[str, Edges]
) -> dict[str, Any]:
    width, height = size
    # The pixels' box is drawn a hair outside, so that the burned-in line stays to be seen.
    gaps = {"pixels": 0.008 * max(size), "answer": 0.0}
    return {
        "name": name,
        "uri": gallery.data_uri(image) if image else None,
        "text": f"{width} × {height} {mode}",
        "width": width,
        "height": height,
        "boxes": [
            (kind, *(round(v, 2) for v in (x1 - gap, y1 - gap, x2 - x1 + 2 * gap, y2 - y1 + 2 * gap)))
            for kind, (x1, y1, x2, y2) in boxes.items()
            for gap in [gaps[kind]]
        ],
    }


def to_letterbox(edges: Edges, place: Mapping[str, Any]) -> Edges:
    """From original to letterboxed pixels; `place` is a row of geometry."""
    return Box(*edges).scaled(_letterbox(place)).edges


def answer_box(answer: str, form: str, place: Mapping[str, Any]) -> Edges | None:
    """The box that an answer names, in ORIGINAL pixels; None where it names none.

    qwen3vl: bbox_2d in 0..1000 of the letterboxed picture; florence: tokens 0..999 of it, each the middle of its bin;
    source: such tokens of the original.
    """
    box = _letterbox(place)
    try:
        if form == "source":
            return Box.from_loc([int(q) for q in _LOC.findall(answer)], box.width, box.height).edges
        values = json.loads(answer)[0]["bbox_2d"] if form == "qwen3vl" else [int(q) + 0.5 for q in _LOC.findall(answer)]
        return Box.of(map(float, values), Frame.THOUSANDTHS).from_thousandths(box).unscaled(box).edges
    except (ValueError, TypeError, LookupError):
        return None


def _letterbox(place: Mapping[str, Any]) -> Letterbox:
    return Letterbox(*(place[name] for name in Letterbox._fields))


def _open(source: io.BytesIO | Path) -> Image.Image | None:
    """A picture as 8-bit grey or RGB; None where Pillow does not read it."""
    try:
        with Image.open(source) as image:
            if image.mode[0] in "IF":  # deep greys: scaled by their own range
                deep = np.asarray(image, np.float64)
                span = max(float(np.ptp(deep)), 1e-9)
                return Image.fromarray(((deep - deep.min()) * (255 / span)).round().astype(np.uint8))
            plain: Image.Image = image.convert("L" if image.mode == "L" else "RGB")
            return plain
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


# --- charts: (title, how many, SVG) ---------------------------------------------------------------------------------

Chart = tuple[str, str, str]


def _count_charts(kept: Any, samples_table: Path) -> list[Chart]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(SPLITS))
    for row in kept.group_by(["tag", "split"]).aggregate([([], "count_all")]).to_pylist():
        counts[row["tag"]][SPLITS.index(row["split"])] = row["count_all"]
    title = "Rows kept, by tag and split"
    charts = [(title, f"{kept.num_rows:,} rows", figures.bar_chart(title, sorted(counts.items()), SPLITS))]
    reasons = pq.read_table(samples_table, columns=["reason"])["reason"].drop_null()
    if len(reasons):
        charts.append(_bars("Rows quarantined, by reason", "rows", Counter(reasons.to_pylist())))
    return charts


def _image_charts(scan: list[Path]) -> list[Chart]:
    table = _readable(scan, ["width", "height", "mode", "box"])
    sizes = Counter(zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True))
    charts = [
        _bars("Image sizes", "images", {f"{width} × {height}": n for (width, height), n in sizes.items()}),
        _bars("Image modes", "images", Counter(table["mode"].to_pylist())),
    ]
    boxes, size = _boxes(table)
    if len(boxes):
        title, area = "Area of the box", 100 * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / size.prod(axis=1)
        svg = figures.spread_chart(title, {"": area}, "% of the image")
        charts.append((title, f"{len(boxes):,} images with a box", svg))
    return charts


def _text_charts(lengths: Mapping[str, array[int]]) -> list[Chart]:
    if not lengths:
        return []
    title = "Length of the answers"
    values = {tag: np.array(found) for tag, found in sorted(lengths.items())}
    svg = figures.spread_chart(title, values, "characters")
    return [(title, f"{sum(map(len, values.values())):,} answers", svg)]


def _heat(scan: list[Path], behind: list[Image.Image]) -> dict[str, Any] | None:
    """The heat map of box centres over the mean of the pictures shown; None where no box was found."""
    boxes, size = _boxes(_readable(scan, ["width", "height", "box"]))
    if not len(boxes):
        return None
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / size
    small = [np.asarray(image.convert("L").resize((160, 160)), np.float64) for image in behind]
    mean = gallery.data_uri(Image.fromarray(np.mean(small, axis=0).astype(np.uint8))) if small else ""
    return {
        "svg": figures.heat_map("Where the centre of the box lies", centres, mean),
        "n": len(boxes),
        "pictures": len(small),
        "left": round(100 * float((centres[:, 0] < 0.5).mean())),
        "upper": round(100 * float((centres[:, 1] < 0.5).mean())),
    }


def _readable(scan: list[Path], columns: list[str]) -> Any:
    return pq.read_table(sorted(scan), columns=columns, filters=pc.field("reason").is_null())


def _boxes(table: Any) -> tuple[Any, Any]:
    """Boxes (n x 4, exclusive ends) and their pictures' width and height (n x 2), where a box was found."""
    table = table.filter(pc.is_valid(table["box"]))
    boxes = pc.list_flatten(table["box"]).to_numpy().reshape(-1, 4).astype(np.float64)
    boxes[:, 2:] += 1
    return boxes, np.column_stack([table["width"].to_numpy(), table["height"].to_numpy()])


def _bars(title: str, unit: str, counts: Mapping[str, int]) -> Chart:
    """The SHOWN most frequent as bars, what is left counted together."""
    ranked = Counter(counts).most_common()
    bars = [(gallery.visible(str(label))[:40], [n]) for label, n in ranked[:SHOWN]]
    if rest := ranked[SHOWN:]:
        bars.append((f"{len(rest):,} others", [sum(n for _, n in rest)]))
    return title, f"{sum(counts.values()):,} {unit}", figures.bar_chart(title, bars)
