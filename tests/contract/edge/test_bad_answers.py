"""Backends whose answers are none: a client of the cascade gets the small model's, and whoever else asks is answered too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.edge.test_bad_clouds import gateway
from tests.support.cascade_site import CLOUD_DIGEST
from tests.support.cascades import INFER, ask_body, read, write_cascade
from tests.support.frames import DATA, HEADERS, PREFACE, SETTINGS, frame
from tests.support.tiny_model import write_tiny_model
from tests.support.wire import run

from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import add_output

ACK, PING, WINDOW, CONTINUATION = 1, 6, 8, 9
RESPONSE = message("ModelInferResponse")
Frames = Callable[[int], bytes]


def pairs(**told: str) -> bytes:
    """Return a header block without compression; underscores in names are dashes, `status` is HTTP's."""
    block = b""
    for name, value in told.items():
        key = b":status" if name == "status" else name.replace("_", "-").encode()
        block += b"\0" + bytes([len(key)]) + key + bytes([len(value)]) + value.encode("latin-1")
    return block


HEAD, FINE = pairs(status="200", content_type="application/grpc"), pairs(grpc_status="0")


def framed(body: bytes, flag: int = 0, length: int | None = None) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(body) if length is None else length) + body


def sent(body: bytes, head: bytes = HEAD, end: bytes = FINE) -> Frames:
    """Give an answer with this body."""

    def frames(stream: int) -> bytes:
        data = b"".join(frame(DATA, 0, stream, body[at : at + 16_384]) for at in range(0, len(body), 16_384))
        return frame(HEADERS, 4, stream, head) + data + frame(HEADERS, 5, stream, end)

    return frames


def told(change: Callable[[Any], object] = lambda _: None, values: Any = ((0.1, 0.8, 0.1),), says: bytes | None = None) -> bytes:
    """Give a message that would be a good answer, were it not changed."""
    response = RESPONSE(model_name="large", model_version="1")
    add_output(response, "PROBABILITIES", np.array(values, np.float32))
    provenance = json.dumps({"digest": CLOUD_DIGEST}).encode() if says is None else says
    add_output(response, "PROVENANCE", np.array([[provenance]], dtype=object))
    change(response)
    return bytes(response.SerializeToString())


def changed(change: Callable[[Any], object]) -> Frames:
    return sent(framed(told(change)))


def of_shape(*shape: int) -> Frames:
    def change(response: Any) -> None:
        response.outputs[0].shape[:] = shape

    return changed(change)


def raw(content: bytes) -> Frames:
    return changed(lambda response: response.raw_output_contents.__setitem__(0, content))


def typed(response: Any) -> None:
    del response.raw_output_contents[:]
    response.outputs[0].contents.fp32_contents.extend([0.1] * 300_000)


def ended(**told: str) -> Frames:
    return lambda stream: frame(HEADERS, 5, stream, pairs(**told))


WRONG: dict[str, Frames] = {
    "100,000 outputs": changed(lambda each: [each.outputs.add(name=f"x{at}", datatype="FP32") for at in range(100_000)]),
    "no outputs": sent(framed(RESPONSE(model_name="large").SerializeToString())),
    "nothing": sent(framed(b"")),
    "no protobuf": sent(framed(b"\xff" * 100)),
    "fewer contents": changed(lambda each: each.raw_output_contents.pop()),
    "more contents": changed(lambda each: each.raw_output_contents.append(b"x")),
    "negative": of_shape(-1, 3),
    "giant": of_shape(2**62, 2**62),
    "no rank": of_shape(),
    "5,000 dimensions": of_shape(*[1] * 5000),
    "no rows": of_shape(0, 3),
    "turned": of_shape(3, 1),
    "short": raw(b"\0" * 11),
    "long": raw(b"\0" * 13),
    "empty": raw(b""),
    "another type": changed(lambda each: setattr(each.outputs[0], "datatype", "FP64")),
    "no type": changed(lambda each: setattr(each.outputs[0], "datatype", "NO\n")),
    "lengths that lie": changed(lambda each: setattr(each.outputs[0], "datatype", "BYTES")),
    "values for another shape": changed(typed),
    "a row too many": sent(framed(told(values=((0.1, 0.8, 0.1),) * 2))),
    "a label too few": sent(framed(told(values=((0.1, 0.9),)))),
    "another output": changed(lambda each: setattr(each.outputs[0], "name", "OTHER")),
    "twice": changed(lambda each: (each.outputs.append(each.outputs[0]), each.raw_output_contents.append(b"\0" * 12))),
    "no numbers": sent(framed(told(values=((float("nan"),) * 3,)))),
    "two messages": sent(framed(told()) * 2),
    "no message": sent(b""),
    "a length of 2 GiB": sent(framed(told(), length=2**31)),
    "a length beyond the end": sent(framed(told(), length=10**6)),
    "half a length": sent(b"\0\0"),
    "compressed, it says": sent(framed(told(), flag=1)),
    "trailers without a status": sent(framed(told()), end=pairs(x="y")),
    "no trailers": lambda stream: frame(HEADERS, 4, stream, HEAD) + frame(DATA, 1, stream, framed(told())),
    "a status that is none": ended(status="200", content_type="application/grpc", grpc_status="-1"),
    "two statuses": lambda stream: frame(HEADERS, 5, stream, HEAD + FINE + pairs(grpc_status="13", grpc_message="%zz%\xff")),
}

BROKEN: dict[str, Frames] = {
    "trailers that do not end": lambda stream: sent(framed(told()))(stream)[: -9 - len(FINE)] + frame(HEADERS, 4, stream, FINE),
    "no status of HTTP": ended(a="b"),
    "HTTP's 302": ended(status="302", location="http://elsewhere"),
    "another stream": lambda stream: sent(framed(told()))(stream + 2),
    "endless headers": lambda stream: (
        frame(HEADERS, 0, stream, HEAD) + frame(CONTINUATION, 0, stream, pairs(x="y" * 100)) * 5_000
    ),
}

ODD: dict[str, tuple[Frames, str | None]] = {
    "as it should be": (sent(framed(told())), CLOUD_DIGEST),
    "data behind the trailers": (lambda stream: sent(framed(told()))(stream) + frame(DATA, 0, stream, b"more"), CLOUD_DIGEST),
    "another id and name": (changed(lambda each: (setattr(each, "id", "x"), setattr(each, "model_name", "y\n"))), CLOUD_DIGEST),
    "provenance without end": (sent(framed(told(says=b"[" * 100_000))), None),
    "provenance of 10 MB": (sent(framed(told(says=b'{"digest":"' + b"x" * 10_000_000 + b'"}'))), None),
    "provenance with half a pair": (sent(framed(told(says=b'{"digest":"\\ud800"}'))), None),
    "provenance with lines": (sent(framed(told(says=b'{"digest":"a\\r\\nb\\u0000"}'))), None),
}
"""What is taken, and whose answer it says it is."""


@contextlib.asynccontextmanager
async def backend(frames: Frames) -> AsyncIterator[str]:
    """Run a server that answers every call with these frames."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(frame(SETTINGS, 0, 0) + frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30)))
            await reader.readexactly(len(PREFACE))
            while True:
                head = await reader.readexactly(9)
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
                body = await reader.readexactly(int.from_bytes(head[:3]))
                if kind in (SETTINGS, PING) and not flags & ACK:
                    writer.write(frame(kind, ACK, 0, body if kind == PING else b""))
                if kind in (HEADERS, DATA) and flags & 1:
                    writer.write(frames(stream))
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that is never sure enough."""
    folder = tmp_path_factory.mktemp("answers")
    write_tiny_model(folder / "edge", task="text-classification")
    write_cascade(folder / "cascade", threshold=None)
    return folder


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_connection_costs_nobody_an_answer(folder: Path, name: str) -> None:
    async def main() -> None:
        async with backend(BROKEN[name]) as address, gateway(folder, address) as client:
            for _ in range(2):
                says = read((await client.unary(INFER, ask_body(["read a file"]), timeout_s=10)).message)[1]
                assert (says["leg"], says["away"]) == ("edge", "answer")

    run(main())


def test_what_is_no_answer_is_not_given_and_what_it_says_beside_is_taken_where_it_can_be_that(folder: Path) -> None:
    """One gateway and one connection for all of them: what was wrong leaves nothing behind."""
    now: list[Frames] = []

    def latest(stream: int) -> bytes:
        return now[-1](stream)

    async def main() -> None:
        async with backend(latest) as address, gateway(folder, address) as client:
            for name, frames in WRONG.items():
                now.append(frames)
                says = read((await client.unary(INFER, ask_body(["read a file"]), timeout_s=10)).message)[1]
                assert (says["leg"], says["away"]) == ("edge", "answer"), name
                for other, (good, digest) in ODD.items() if name == "nothing" else [("as it should be", ODD["as it should be"])]:
                    now.append(good)
                    says = read((await client.unary(INFER, ask_body(["read a file"]), timeout_s=10)).message)[1]
                    assert (says["leg"], says.get("digest")) == ("cloud", digest), (name, other)

    run(main())
