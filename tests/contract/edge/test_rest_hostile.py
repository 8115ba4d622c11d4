"""HTTP/1.1 as attackers write it, to a gateway's process: what is smuggled, lies about its length, has no end, or is no HTTP."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator

import pytest
from tests.support.gateway_process import Gateway, gateway
from tests.support.kube.process import free_port

HOST = b"host: x\r\n"
GET = b"GET /v2 HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /v2 HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n"
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}).encode()
BINARY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": 9}}]}
).encode()
CHUNKED = b"transfer-encoding: chunked\r\n"
CLOSE = b"connection: close\r\n"


def post(body: bytes = BODY, *more: bytes, length: bytes | None = None, end: bytes = CLOSE) -> bytes:
    """Return an inference; no model `no` is served, so one that is understood is answered with 404."""
    told = b"" if length == b"" else b"content-length: " + (length or b"%d" % len(body)) + b"\r\n"
    return b"POST /v2/models/no/infer HTTP/1.1\r\n" + HOST + b"".join(more) + told + end + b"\r\n" + body


def binary(length: bytes, tail: bytes = b"\x05\0\0\0hello", text: bytes = BINARY) -> bytes:
    return post(text + tail, b"inference-header-content-length: " + length + b"\r\n")


WHOLE = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SIZED = b"%d" % len(BINARY)

CASES: dict[str, tuple[bytes, list[int]]] = {
    "understood": (post(), [404]),
    "500 at once": (GET * 499 + LAST, [200] * 500),
    "HTTP/1.0": (LAST.replace(b"1.1", b"1.0"), [200]),
    "HTTP/0.9": (b"GET /v2\r\n\r\n", [400]),
    "HTTP/2.0 as a word": (LAST.replace(b"1.1", b"2.0"), [400]),
    "chunked": (post(WHOLE, CHUNKED, length=b""), [404]),
    "chunks of a byte": (
        post(b"".join(b"1\r\n%c\r\n" % each for each in BODY) + b"0\r\n\r\n", CHUNKED, length=b""), [404],
    ),
    "a trailer that is a header": (post(WHOLE[:-2] + b"authorization: Bearer x\r\n\r\n", CHUNKED, length=b""), [404]),
    "two requests, by length and by chunks": (post(WHOLE + LAST, CHUNKED, length=b"4", end=b""), [404]),
    "two requests, by chunks and by length": (post(WHOLE + LAST, b"content-length: 4\r\n", CHUNKED, length=b"", end=b""), [404]),
    "chunked, identity": (post(WHOLE, b"transfer-encoding: chunked, identity\r\n", length=b""), [400]),
    "chunked, misspelt": (post(WHOLE, b"transfer-encoding: xchunked\r\n"), [400]),
    "chunked, before its colon": (post(WHOLE, b"transfer-encoding : chunked\r\n", length=b""), [400]),
    "chunked in HTTP/1.0": (post(WHOLE, CHUNKED, length=b"").replace(b"HTTP/1.1", b"HTTP/1.0"), [400]),
    "a chunk of 2^72 bytes": (post(b"FFFFFFFFFFFFFFFFFF\r\nx", CHUNKED, length=b""), []),
    "a chunk of -5 bytes": (post(b"-5\r\nx", CHUNKED, length=b""), []),
    "a chunk that is longer": (post(b"3\r\nabcd\r\n0\r\n\r\n", CHUNKED, length=b""), []),
    "a chunk's extension without end": (post(b"1;" + b"a" * 200_000, CHUNKED, length=b""), []),
    "two lengths": (post(BODY, b"content-length: 3\r\n"), [400]),
    "a list of lengths": (post(length=b"%d, %d" % (len(BODY), len(BODY))), [400]),
    **{f"length {each!r}": (post(length=each), [400]) for each in (b"-1", b"+5", b"0x10", b"1e3", b"9" * 30, "５".encode())},
    "a length of 2^63": (post(length=b"9223372036854775807"), [413]),
    "a length that is short": (post(BODY + LAST, length=b"5", end=b""), [400, 400]),
    "a body where none belongs": (b"GET /v2 HTTP/1.1\r\n" + HOST + b"content-length: 5\r\n\r\nhello" + LAST, [200, 200]),
    "asked whether to go on, to nothing": (
        b"POST /nothing HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: 9999\r\n\r\n", [404],
    ),
    "a header of 2 MB": (b"GET /v2 HTTP/1.1\r\nx: " + b"a" * 2_000_000, [431]),
    "20,000 headers": (b"GET /v2 HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % each for each in range(20_000)), [431]),
    "a header of two lines": (post(BODY, b"x: a\r\n b\r\n"), [400]),
    "a header with NUL": (post(BODY, b"x: a\0b\r\n"), [400]),
    "a header with half a line's end": (post(BODY, b"x: a\rb\r\n"), [400]),
    "another host": (LAST.replace(b"/v2", b"http://elsewhere/v2"), [200]),
    "a tunnel": (LAST.replace(b"GET /v2", b"CONNECT elsewhere:80"), [404]),
    "a method of 100,000": (b"A" * 100_000 + LAST, [431]),
    **{
        f"path {path!r:.30}": (LAST.replace(b"/v2", path), [code])
        for path, code in [
            (b"/v2/models/%ff%00", 404), (b"/v2/models/%", 404), (b"/v2/models/no%2finfer", 404), (b"/v2/../etc/passwd", 404),
            (b"/v2/models/%0d%0aX:1/ready", 404), (b"/" * 8000, 404), (b"/v2/models/\xff", 400), (b"http://", 400),
        ]
    },
    "another protocol": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 500, [400]),
    "another encoding": (post(BODY, b"content-encoding: br\r\n"), [415]),
    "no gzip": (post(BODY, b"content-encoding: gzip\r\n"), [400]),
    "gRPC over HTTP/1.1": (post(BODY, b"content-type: application/grpc\r\n"), [200]),  # with a status of gRPC
    **{
        f"JSON {name}": (post(body), [400])
        for name, body in {
            "nested without end": b"[" * 100_000, "nested data": BODY.replace(b"[1]}", b"[" * 2000 + b"]" * 2000 + b"}"),
            "of a giant": BODY.replace(b"[1]}", b"[1" + b"0" * 5000 + b"]}"), "of infinity": BODY.replace(b"[1]}", b"[1e999]}"),
            "negative": BODY.replace(b"[1, 1]", b"[-1, 1]"), "of giants": BODY.replace(b"[1, 1]", b"[9223372036854775807, 2]"),
            "of half a pair": b'{"inputs": [], "id": "\\ud800"}', "in UTF-16": BODY.decode().encode("utf-16"), "of NUL": b"\0",
        }.items()
    },
    "binary": (binary(SIZED), [404]),
    **{f"binary of {each!r:.12}": (binary(each), [400]) for each in (b"-1", b"99999", b"1e3", b"", b"9" * 5000, b"\xb2")},
    "a tensor beyond the body": (binary(SIZED, b"x"), [400]),
    "a tensor of a negative size": (binary(b"%d" % (len(BINARY) + 1), text=BINARY.replace(b": 9", b": -1")), [400]),
    "bytes behind the last": (binary(SIZED, b"\x05\0\0\0hello!"), [400]),
}  # fmt: skip


@pytest.fixture(scope="module")
def there() -> Iterator[tuple[Gateway, int]]:
    port = free_port()
    with gateway("--model=yes=127.0.0.1:1", f"--rest=127.0.0.1:{port}") as running:
        yield running, port


def told(port: int, data: bytes) -> bytes:
    """Send and give all that comes until the connection ends, which each of these ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        found = b""
        with contextlib.suppress(ConnectionError):
            line.sendall(data)
        with contextlib.suppress(ConnectionError):
            while piece := line.recv(65_536):
                found += piece
        return found


def test_whatever_is_sent_gets_as_many_answers_as_it_has_requests(there: tuple[Gateway, int]) -> None:
    running, port = there
    for name, (data, codes) in CASES.items():
        found = told(port, data)
        assert [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d{3}) ", found)] == codes, (name, found[:300])
    assert told(port, LAST).startswith(b"HTTP/1.1 200 ")
    assert running.process.poll() is None
    assert not [line for line in running.lines if "Traceback" in line or " ERROR " in line]


def test_one_that_waits_to_be_asked_for_its_body_is_asked(there: tuple[Gateway, int]) -> None:
    head, _, body = post(BODY, b"expect: 100-continue\r\n").partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", there[1]), timeout=20) as line:
        line.sendall(head + b"\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 100 ")
        line.sendall(body)
        assert line.recv(100).startswith(b"HTTP/1.1 404 ")
