"""A watch's lines without those that tell of our own writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stillhouse.entrypoints.cluster.echoes import Lines


def line(version: int, event: str = "ADDED", **metadata: Any) -> bytes:
    """One event as an API server writes it."""
    meta = {"name": "x", "uid": "u", "resourceVersion": str(version), **metadata}
    return json.dumps({"type": event, "object": {"kind": "Service", "metadata": meta}}, separators=(",", ":")).encode() + b"\n"


class Content:
    """What an answer's content gives, in the pieces in which it comes."""

    marker = "still reached"

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


def kept(pieces: list[bytes], ours: set[int], writing: bool = False) -> bytes:
    async def run() -> bytes:
        lines = Lines(Content(pieces), lambda version: version in ours, lambda: writing)  # type: ignore[arg-type]
        assert lines.marker == "still reached"
        return b"".join([piece async for piece in lines.iter_chunked(1 << 20)])

    return asyncio.run(run())


def test_only_our_own_are_left_out() -> None:
    assert kept([line(1) + line(2) + line(3)], {2}) == line(1) + line(3)
    assert kept([line(1)], {1}) == b""


def test_the_end_of_an_object_is_never_left_out() -> None:
    gone, mark = line(2, "DELETED"), line(2, "BOOKMARK")
    assert kept([gone, mark], {2}) == gone + mark


@pytest.mark.parametrize("cut", range(1, 2 * len(line(1)), 7))
def test_lines_may_come_in_any_pieces(cut: int) -> None:
    whole = line(1) + line(2) + line(3)
    assert kept([whole[:cut], whole[cut:]], {2}, writing=True) == line(1) + line(3)


def test_what_looks_like_a_version_inside_a_text_is_none() -> None:
    tricky = {"annotations": {"a": '"resourceVersion":"7"'}}
    meta = json.dumps({"type": "ADDED", "object": {"metadata": {**tricky, "resourceVersion": "8"}}}, separators=(",", ":"))
    assert kept([meta.encode() + b"\n"], {7}) == meta.encode() + b"\n"
    assert kept([meta.encode() + b"\n"], {8}) == b""


def test_what_a_cut_connection_leaves_is_passed_on() -> None:
    assert kept([line(1), line(2)[:20]], {1, 2}) == line(2)[:20]
