"""Command-line types that several stages share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token


def _parse(_: type, tokens: Sequence[Token]) -> dict[str, Any]:
    value = json.loads(tokens[0].value)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value


Json = Annotated[dict[str, Any], Parameter(converter=_parse, accepts_keys=False, n_tokens=1)]
