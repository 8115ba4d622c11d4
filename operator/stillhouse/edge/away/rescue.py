"""What can still be read of a queue's file: a row is a request only if it is what was written."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from stillhouse.edge.away.records import Request

__all__ = ["TAKEN", "request_of", "rescued"]

TAKEN = (
    "SELECT number, owner, key, attempts, created, digest, target, headers, data FROM record LEFT JOIN body USING(number) WHERE "
)
"""Columns of a row that `request_of` takes."""


def request_of(row: tuple[Any, ...]) -> Request | None:
    """Make a request out of its row; None where it is not what was written."""
    _, owner, key, _, _, digest, target, headers, data = row
    try:
        pairs = tuple((name, value) for name, value in json.loads(headers)) if headers else ()
        request = Request(str(owner), str(key), str(target), bytes(data), pairs)
    except (ValueError, TypeError, RecursionError):
        return None
    return request if request.digest() == digest else None


def rescued(file: Path) -> list[Request]:
    """Return the whole requests that can still be found in a damaged file, the oldest first."""
    found: dict[int, Request] = {}
    for order in ("ASC", "DESC"):  # from both ends up to what is torn
        with contextlib.suppress(sqlite3.Error, ValueError, TypeError), contextlib.closing(sqlite3.connect(file)) as db:
            for row in db.execute(f"{TAKEN} +state = 0 ORDER BY number {order}"):
                request = request_of(row)
                if request is not None:
                    found[row[0]] = request
    return [found[number] for number in sorted(found)]
