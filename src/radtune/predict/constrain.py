"""Answers that are always valid JSON: of each step's tokens only those stay that a schema allows, by llguidance.

https://github.com/guidance-ai/llguidance. A schema alone would not do: an answer that is cut at the most tokens is not
valid. So a token is taken only where the answer can still be closed after it; else it is closed the shortest way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import llguidance.hf
import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer

from radtune import files

# as json.dumps writes it, so that no tokens go into white space without end
FORM: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
BYTES = [bytes([one]) for one in (*b'"}],1', *range(256))]  # those that lead to the end first
MORE = 48  # tokens by which the way out may become longer on the way: an escape, a box that has begun


def constrainer(
    tokenizer: Any, vocabulary: int, schemas: Mapping[str, Any], max_new_tokens: int
) -> Callable[[Sequence[str]], Constrained]:
    """What makes, of the tags of a batch's rows, its processor; rows of a tag without schema stay as they are.

    `vocabulary`: the width of the model's logits. Raises UserError where `max_new_tokens` is too few to close with.
    """
    known = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=tokenizer.eos_token_id)
    matchers = {}
    for tag, schema in schemas.items():
        matchers[tag] = LLMatcher(known, LLMatcher.grammar_from_json_schema(schema, overrides=FORM))
        if matchers[tag].is_error():
            raise ValueError(f"schema of {tag}: {matchers[tag].get_error()}")
        if (least := len(closing(known, matchers[tag])) + 1) > max_new_tokens:
            raise files.UserError(
                f"max_new_tokens {max_new_tokens} is too few for a valid {tag}, which takes {least} when it is empty; "
                "raise it, or set generation.valid_records to false."
            )
    return lambda tags: Constrained(known, [matchers.get(tag) for tag in tags], max_new_tokens)


def closing(tokenizer: LLTokenizer, matcher: LLMatcher) -> list[int]:
    """Tokens that end the answer a short way from here: texts closed, what is missing empty; without the end token."""
    matcher, text = matcher.deep_copy(), b""
    while not matcher.is_accepting():
        possible = (one for one in BYTES if matcher.validate_tokens(tokenizer.tokenize_bytes(one)))
        step = matcher.compute_ff_bytes() or next(possible)
        if not matcher.consume_tokens(tokenizer.tokenize_bytes(step)):
            raise RuntimeError(f"llguidance: {matcher.get_error()}")
        text += step
    return tokenizer.tokenize_bytes(text)


def _mask(matcher: LLMatcher) -> Any:
    """Whether each token may follow; a few more than there are tokens."""
    return np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little").astype(bool)


class Constrained:
    """A logits processor for one greedy call of generate(): masks constrained rows of scores (rows, vocabulary)."""

    def __init__(self, tokenizer: LLTokenizer, matchers: Sequence[LLMatcher | None], max_new_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.left = max_new_tokens
        self.begun = False
        self.rows = {row: matcher.deep_copy() for row, matcher in enumerate(matchers) if matcher}
        self.forced: dict[int, deque[int]] = {}
        self.way = {row: len(closing(tokenizer, matcher)) for row, matcher in self.rows.items()}  # out, as last seen

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.begun:
            self._take(input_ids[:, -1].tolist())
        self.begun = True
        for row, matcher in self.rows.items():
            forbidden = torch.from_numpy(~_mask(matcher)[: scores.shape[1]]).to(scores.device)
            scores[row].masked_fill_(forbidden, -torch.inf)
        self._close(scores)
        self.left -= 1
        return scores

    def _take(self, tokens: list[int]) -> None:
        """The tokens that were chosen; a row that has ended is constrained no more."""
        for row, matcher in list(self.rows.items()):
            if tokens[row] == self.tokenizer.eos_token:
                del self.rows[row]
            elif not matcher.consume_token(tokens[row]):
                raise RuntimeError(f"llguidance: {matcher.get_error()}")

    def _close(self, scores: torch.Tensor) -> None:
        """Where an answer could not be closed after the best token, leave it the next one of the way out alone."""
        for row, matcher in self.rows.items():
            if self.left > self.way[row] + MORE:
                continue
            if row not in self.forced:
                best, after = int(scores[row].argmax()), matcher.deep_copy()
                if best == self.tokenizer.eos_token:
                    continue
                after.consume_token(best)
                self.way[row] = len(closing(self.tokenizer, after))
                if self.way[row] + 1 < self.left:
                    continue
                self.forced[row] = deque([*closing(self.tokenizer, matcher), self.tokenizer.eos_token])
            token = self.forced[row].popleft()
            scores[row] = -torch.inf
            scores[row, token] = 0
