"""What a worker tells of its stage, and what the operator makes of it, over a real connection."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stillhouse.clients.progress import Progress, ProgressReader
from stillhouse.entrypoints.answering import Answering
from stillhouse.entrypoints.local.display import showing
from stillhouse.entrypoints.worker.progress import PATH, telling
from stillhouse.planning.plan import Step

STEP = cast("Step", SimpleNamespace(id="train/student"))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def asked(port: int) -> Progress | None:
    async def ask() -> Progress | None:
        async with ProgressReader(port) as reader:
            return await reader.read("127.0.0.1")

    return asyncio.run(ask())


def test_the_operator_reads_what_the_bars_show() -> None:
    port, log = free_port(), StringIO()
    with showing(log) as shown, telling("train", shown, port, "127.0.0.1") as listener:
        assert asked(port) is None, "nothing has begun"
        with listener.busy("sources") as bar:
            bar.update(3, 4, "files")
            assert asked(port) == Progress("sources", 0, 0, "3/4 files")
        bar = listener.started(STEP, 2, 5)
        bar.update(30, 900, "steps", "loss 0.31")
        found = asked(port)
        assert found == Progress("train/student", 2, 5, "loss 0.31: 30/900 steps")
        assert found.text() == "train/student (2/5): loss 0.31: 30/900 steps"
        told = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}{PATH}", timeout=5).read())
        assert (told["stage"], told["done"], told["of"], told["unit"]) == ("train", 30, 900, "steps")
        assert "train/student" in log.getvalue(), "the log goes on as it was"
    assert asked(port) is None, "it ends with the run"


def test_it_is_read_only() -> None:
    port = free_port()
    with showing(StringIO()) as shown, telling("train", shown, port, "127.0.0.1"):
        for method, path, code in (("POST", PATH, 501), ("PUT", PATH, 501), ("DELETE", PATH, 501), ("GET", "/", 404)):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, data=None)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=5)
            assert refused.value.code == code


def test_a_port_that_is_taken_stops_no_build() -> None:
    log = StringIO()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with showing(log) as shown, telling("train", shown, taken.getsockname()[1], "127.0.0.1") as listener:
            listener.started(STEP, 1, 1).update(1, 2, "files")
            assert listener.place.figures == "1/2 files"
    assert "progress is told in this log alone" in log.getvalue()


@contextmanager
def answering(status: int, content: bytes) -> Iterator[int]:
    endpoint = Answering("127.0.0.1", 0, {PATH: lambda: (status, content)}, "test")
    try:
        yield endpoint.port
    finally:
        endpoint.close()


def said(**changed: Any) -> bytes:
    return json.dumps({"step": "a", "position": 1, "total": 2, "figures": "", **changed}).encode()


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (500, said()),
        (302, said()),
        (200, b""),
        (200, b"not JSON"),
        (200, b"[]"),
        (200, b"\xff\xfe"),
        (200, said(step="")),
        (200, said(step=None)),
        (200, said(position="1")),
        (200, said(total=1.5)),
        (200, said(figures={})),
        (200, said(figures="x" * (17 << 10))),
    ],
)
def test_what_is_no_progress_is_none(status: int, content: bytes) -> None:
    with answering(status, content) as port:
        assert asked(port) is None


def test_a_pods_words_are_bounded_and_plain() -> None:
    with answering(200, said(step="a\x1b[2Jb\n", figures="é" * 300)) as port:
        found = asked(port)
    assert found is not None
    assert found.step == "a [2Jb "
    assert len(found.text()) == 200


def test_who_takes_the_connection_and_says_nothing_is_left_after_two_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert asked(silent.getsockname()[1]) is None
