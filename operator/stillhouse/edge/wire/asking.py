"""One request over an HTTP/2 connection, and nothing left of it when nobody waits for the answer any more; bodies piece by piece.

With `lighter` the only place that reaches behind httpunk's public face: a request that is cancelled before its answer begins
leaves its stream open there (`H2Connection.send_request` of 0.4.5), and the server at work; and its bodies are generators around
generators, each of which the event loop keeps a book about. tests/contract/wire holds what is used of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from httpunk import H2Connection, HeaderMap, Response, Version
from httpunk._httpunk import H2Stopped
from httpunk.exceptions import ConnectionClosedError, H2Reason
from httpunk.h2.server import ServerRequest
from httpunk.h2.share import H2ResponseBody

__all__ = ["asked", "pieces"]


async def asked(connection: H2Connection, method: str, headers: HeaderMap, body: Any) -> Response:
    """Send a POST; return the response once its head is there. Reading the body, or closing the response, is the caller's.

    Raises:
        HTTPunkError: the connection or the stream broke.
    """
    driver: Any = connection._conn
    stream = await driver._open_stream("POST", method, headers, end_stream=False, is_head=False)
    try:
        driver._send_body_background(stream, body, None)
        await stream.headers_evt.wait()
    except BaseException:
        driver._reset(stream, int(H2Reason.CANCEL))
        raise
    if stream.status is None:
        if stream.stop is not None:
            raise driver._stopped_error(stream, stream.stop)
        raise driver.conn_error() or ConnectionClosedError("the connection closed before the answer")
    answer: Any = H2ResponseBody(stream, driver)  # type: ignore[no-untyped-call]
    return Response(stream.status, stream.headers, answer, version=Version.HTTP_2)


class _Pieces:
    """The pieces of a body as they arrive; each makes room in its window."""

    __slots__ = ("_driver", "_stream")

    def __init__(self, driver: Any, stream: Any) -> None:
        self._driver, self._stream = driver, stream

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        driver, stream = self._driver, self._stream
        item = await stream.body_recv.receive()
        if item is None:
            raise StopAsyncIteration
        if type(item) is H2Stopped:
            raise driver._stopped_error(stream, item)
        piece: bytes
        piece, budgeted = item
        if budgeted:
            driver.release_data_frame(stream.id, len(piece))
        driver._after(driver.release_capacity(stream.id, len(piece)))
        return piece


def pieces(source: Any) -> AsyncIterator[bytes]:
    """Return the pieces of the body of a request or a response.

    Raises:
        HTTPunkError: while they are read; the connection or the stream broke.
    """
    body = source._body if isinstance(source, Response) else source
    if isinstance(body, (H2ResponseBody, ServerRequest)):
        return _Pieces(body._conn, body._stream)
    whole: AsyncIterator[bytes] = source.aiter_bytes()
    return whole
