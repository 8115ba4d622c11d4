"""One request over an HTTP/2 connection, and nothing left of it when nobody waits for the answer any more.

The only place that reaches behind httpunk's public face: a request that is cancelled before its answer begins leaves its stream
open there (`H2Connection.send_request` of 0.4.5), and the server at work. tests/contract/wire holds what is used of it.
"""

from __future__ import annotations

from typing import Any

from httpunk import H2Connection, HeaderMap, Response, Version
from httpunk.exceptions import ConnectionClosedError, H2Reason
from httpunk.h2.share import H2ResponseBody

__all__ = ["asked"]


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
