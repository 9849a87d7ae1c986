"""What becomes of wording that was found: rows of train and validation dropped, or their texts rewritten by a model.

    radtune clean --samples samples.parquet --wording wording.parquet --cleaning '{"action": "drop", ...}' ...

The test split stays as delivered, or experiments could not be compared. Out: a table of the rows that were looked at
(id, as in the ShareGPT files, tag, split, action: drop, rewrite or keep, reason, the new parts, similarity), and its
summary.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from radtune.clean.accept import REFUSALS, bare, refusal
from radtune.clean.server import Answer, ask_all, bill, cost
from radtune.clean.text import Kind, fields
from radtune.files import UserError, replacing, write_json
from radtune.flags import Json
from radtune.language import meaning

CLEANED = ("train", "validation")
NO_WORDING = {Kind.EMPTY, Kind.CONTRADICTION}  # no rewriting mends these
EXAMPLES = 8

Row = dict[str, Any]


def clean(
    samples: Path,
    wording: Path,
    out: Path,
    summary: Path,
    *,
    cleaning: Json,
    server: Json | None = None,
    prompt: Path | None = None,
) -> None:
    """Write the table to `out` and what was done to `summary`.

    `cleaning`: action (drop or rewrite) and kinds; to rewrite, also base_url, model and similarity (0 to 100), a file
    `prompt` with the `system` message, and `server`: concurrency, timeout (s), retries, price (of a million tokens,
    input and output). Raises UserError where a split would be left without a row, and as server.ask_all does.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = pq.read_table(wording, columns=["id", "tag", "split", "kind", "field", "evidence", "note"]).to_pylist()
    columns = ["sample", "tag", "split", "parts"]
    kept = pq.read_table(samples, columns=columns, filters=[("status", "=", "kept")]).to_pylist()
    chosen: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in found:
        if row["split"] in CLEANED and row["kind"] in cleaning["kinds"]:
            chosen[row["id"], row["tag"]].append(row)
    rows = [row for row in kept if (row["sample"], row["tag"]) in chosen]
    about: Row = {"action": cleaning["action"], "kinds": cleaning["kinds"]}
    if cleaning["action"] == "drop":
        lines = [_line(row, "drop", ", ".join(sorted({of["kind"] for of in chosen[key(row)]}))) for row in rows]
    else:
        assert prompt is not None
        assert server is not None
        texts = _wanted(rows, chosen)
        said = ask_all(
            sorted({text for of in texts for text in of.values()}),
            system=read_prompt(prompt),
            cache=out.with_name("rewrites.jsonl"),
            base_url=cleaning["base_url"],
            model=cleaning["model"],
            **server,
        )
        train = [text for row in kept if row["split"] == "train" for text in _texts(row).values()]
        wrong = {row["evidence"].lower(): row["note"] for row in found if row["kind"] == Kind.MISSPELT}
        verdicts = _judge(said, train, cleaning, wrong if Kind.MISSPELT in cleaning["kinds"] else {})
        lines = [_rewritten(row, own, verdicts) for row, own in zip(rows, texts, strict=True)]
        about |= _told(verdicts, said, cleaning, server["price"])
    _leave_some(kept, lines)
    names = ("id", "tag", "split", "action", "parts", "reason")
    schema = pa.schema([(name, pa.string()) for name in names] + [("similarity", pa.float64())])
    with replacing(out) as temporary:
        pq.write_table(pa.Table.from_pylist(lines, schema), temporary)
    done = {split: dict(Counter(row["action"] for row in lines if row["split"] == split)) for split in CLEANED}
    counts = {split: {"rows": sum(row["split"] == split for row in kept)} | done[split] for split in CLEANED}
    write_json(summary, about | {"splits": counts, "reasons": REFUSALS})


def key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["sample"], row["tag"]


def read_prompt(path: Path) -> str:
    """The `system` message of a prompt file."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict) or set(found) != {"system"} or not str(found["system"] or "").strip():
        raise UserError(f"{path}: needs to be YAML with the key system, a text, and no other.")
    return str(found["system"]).strip()


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    """What may be rewritten of an answer: never a box or its label, nor a record's structure."""
    return {} if row["tag"] == "DETECT_REGION_LOC" else fields(row["tag"], json.loads(row["parts"]))


def _wanted(rows: Sequence[Row], chosen: Mapping[tuple[str, str], list[Row]]) -> list[dict[str, str]]:
    """Of each row the fields whose wording was found wanting."""
    wanted = [{of["field"] for of in chosen[key(row)] if of["kind"] not in NO_WORDING} for row in rows]
    return [
        {name: text for name, text in _texts(row).items() if name in names}
        for row, names in zip(rows, wanted, strict=True)
    ]


def _judge(
    said: Mapping[str, Answer], train: Sequence[str], cleaning: Row, spelling: Mapping[str, str]
) -> dict[str, Row]:
    """Of each text: the rewrite where it is accepted, else None; why not; the similarity, None without a rewrite.

    The original is held to as it was meant: misspelt terms as `spelling` has them, or none could be mended; and for the
    similarity without the wording that it was to be rid of, or a short text could never pass.
    """
    space = meaning.fit(train)
    texts = list(said)
    meant = [re.sub("[a-z]+", lambda m: spelling.get(m[0].lower(), m[0]), text, flags=re.IGNORECASE) for text in texts]
    nearness = np.full(len(texts), np.nan)
    if space and texts:
        nearness = meaning.similarity(space, [said[text]["text"] for text in texts], list(map(bare, meant)))
    found: dict[str, Row] = {}
    for text, was_meant, near in zip(texts, meant, nearness, strict=True):
        answer = said[text]
        reason = answer["failed"] or ("unchanged" if answer["text"] == text else None)
        reason = reason or refusal(was_meant, answer["text"], cleaning["kinds"])
        if reason is None and not near >= cleaning["similarity"]:  # NaN, where no word is known, is not enough
            reason = "similarity"
        near = None if np.isnan(near) or not answer["text"] else float(near)
        found[text] = {"rewrite": None if reason else answer["text"], "reason": reason, "similarity": near}
    return found


def _rewritten(row: Row, own: Mapping[str, str], verdicts: Mapping[str, Row]) -> Row:
    of = {name: verdicts[text] for name, text in own.items()}
    new = {name: verdict["rewrite"] for name, verdict in of.items() if verdict["rewrite"]}
    reasons = sorted({verdict["reason"] for verdict in of.values() if verdict["reason"]})
    near = [verdict["similarity"] for verdict in of.values() if verdict["rewrite"]]
    line = _line(row, "rewrite" if new else "keep", ", ".join(reasons if of else ["not wording"]))
    parts = json.dumps(json.loads(row["parts"]) | new, ensure_ascii=False) if new else None
    return line | {"parts": parts, "similarity": min(near, default=None)}


def _line(row: Row, action: str, reason: str) -> Row:
    return {"id": row["sample"], "tag": row["tag"], "split": row["split"], "action": action, "reason": reason}


def _told(verdicts: Mapping[str, Row], said: Mapping[str, Answer], cleaning: Row, price: Row) -> Row:
    """The summary of rewriting: texts by outcome, similarities of those rewritten, tokens, cost, examples."""
    done = {text: of for text, of in verdicts.items() if of["rewrite"]}
    near = np.array([of["similarity"] for of in done.values()], np.float64)
    tokens = [sum(answer["tokens"][i] for answer in said.values()) for i in (0, 1)]
    refused = Counter(of["reason"] for of in verdicts.values() if of["reason"])
    print(f"{len(done):,} of {len(said):,} texts rewritten; {bill(tokens, price)}", file=sys.stderr)
    worst_first = sorted(done.items(), key=lambda pair: (pair[1]["similarity"], pair[0]))
    shown = worst_first[:: len(worst_first) // EXAMPLES or 1][:EXAMPLES]
    return {
        "model": cleaning["model"],
        "texts": {"asked": len(said), "rewritten": len(done), "refused": dict(refused.most_common())},
        "similarity": {
            "mean": float(near.mean()) if len(near) else None,
            "least": cleaning["similarity"],
            "rewritten": near.round(1).tolist(),
            "refused": [round(of["similarity"], 1) for of in verdicts.values() if of["reason"] and of["similarity"]],
        },
        "tokens": tokens,
        "cost": cost(tokens, price),
        "examples": [{"before": text} | of for text, of in shown],
    }


def _leave_some(kept: Sequence[Row], lines: Sequence[Row]) -> None:
    dropped = Counter(line["split"] for line in lines if line["action"] == "drop")
    for split, n in Counter(row["split"] for row in kept).items():
        if dropped[split] == n:
            raise UserError(f"cleaning would drop every row of {split}; take a kind out of cleaning.kinds.")
