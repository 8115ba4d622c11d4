"""What of a client's call goes on to whoever is asked for it: its metadata, and the time that is left."""

from __future__ import annotations

import asyncio

from stillhouse.edge.status import Code, Metadata, RpcError
from stillhouse.edge.tracing.context import passed_on
from stillhouse.edge.wire.call import Call

__all__ = ["left_of", "onward"]

_OURS = frozenset({"authorization", "x-api-key"})
"""What a client shows us is not for the backends."""


def left_of(call: Call) -> float | None:
    """Return the seconds until a call's deadline, None where it has none.

    Raises:
        RpcError: DEADLINE_EXCEEDED; it has passed.
    """
    if call.deadline is None:
        return None
    left = call.deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise RpcError(Code.DEADLINE_EXCEEDED, "the deadline has passed")
    return left


def onward(call: Call) -> Metadata:
    """Return the client's metadata as backends get it: without what it has shown to us."""
    metadata = call.metadata
    if metadata:
        metadata = tuple(each for each in metadata if each[0] not in _OURS)
        if call.span is None:
            metadata = passed_on(metadata)
    return metadata if call.span is None else call.span.onward(metadata)
