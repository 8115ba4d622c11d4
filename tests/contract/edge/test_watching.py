"""The watch of EndpointSlices against a stand-in for the API server, which does what a real one does seldom."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.wire import run, until

from stillhouse.edge.watching import Api, Watcher
from stillhouse.errors import EnvironmentProblem

SLICE = {
    "metadata": {"name": "m-1", "resourceVersion": "5"}, "addressType": "IPv4", "ports": [{"name": "grpc", "port": 8001}],
    "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
}  # fmt: skip


def of(*hosts: str, version: str = "6") -> dict[str, Any]:
    endpoints = [{"addresses": [each], "conditions": {"ready": True}} for each in hosts]
    return {**SLICE, "metadata": {"name": "m-1", "resourceVersion": version}, "endpoints": endpoints}


Reply = tuple[int, list[Any]]


@dataclass
class Server:
    """Answers each request as the script says; the last answer goes for all that come after. `asked`: queries and tokens."""

    replies: list[Callable[[dict[str, str]], Reply]] = field(default_factory=list)
    asked: list[tuple[dict[str, str], str]] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = head.split(" ", 2)[1]
            query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
            token = next(line for line in head.split("\r\n") if line.lower().startswith("authorization")).rpartition(" ")[2]
            self.asked.append((query, token))
            status, parts = self.replies.pop(0)(query) if len(self.replies) > 1 else self.replies[0](query)
            writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".encode())
            for each in parts:
                if each is ...:  # broken off
                    writer.transport.abort()
                    return
                if each is None:
                    await writer.drain()
                    await self.hold.wait()
                    continue
                data = each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n"
                writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        writer.close()


def listed(*items: Any, version: str = "10", **more: str) -> Callable[[dict[str, str]], Reply]:
    return lambda _: (200, [{"metadata": {"resourceVersion": version, **more}, "items": list(items)}])


def watched(*parts: Any, status: int = 200) -> Callable[[dict[str, str]], Reply]:
    return lambda _: (status, list(parts))


@contextlib.asynccontextmanager
async def watching(
    folder: Path, *replies: Callable[[dict[str, str]], Reply]
) -> AsyncIterator[tuple[Server, Watcher, list[dict[str, float]], list[float]]]:
    """A watcher under way; what it told, and how long it paused."""
    server = Server(list(replies))
    told: list[dict[str, float]] = []
    slept: list[float] = []
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    (folder / "token").write_text("first\n")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    api = Api("127.0.0.1", port, folder / "token", None)
    watcher = Watcher(api, "models", "m", 8001, lambda found: told.append(dict(found)), sleep=sleep, chance=lambda: 0.5)
    task = asyncio.ensure_future(watcher.run())
    try:
        yield server, watcher, told, slept
    finally:
        task.cancel()
        server.hold.set()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        listening.close()


A, B = {"10.0.0.1:8001": 1.0}, {"10.0.0.2:8001": 1.0}
WAITS = watched(None)


def test_a_list_in_pages_then_a_watch_from_its_version(tmp_path: Path) -> None:
    async def work() -> None:
        other = {**of("10.0.0.9"), "metadata": {"name": "m-2", "resourceVersion": "4"}}
        first, second = listed(SLICE, **{"continue": "more"}), listed(other, version="11")
        events = watched({"type": "MODIFIED", "object": of("10.0.0.2", version="12")}, {"type": "DELETED", "object": other}, None)
        async with watching(tmp_path, first, second, events) as (server, _, told, _):
            await until(lambda: len(told) == 3)
            assert told == [{**A, "10.0.0.9:8001": 1.0}, {**B, "10.0.0.9:8001": 1.0}, B]
            queries = [query for query, _ in server.asked]
            assert [query.get("continue") for query in queries] == [None, "more", None]
            assert {query["labelSelector"] for query in queries} == {"kubernetes.io/service-name=m"}
            assert (queries[2]["watch"], queries[2]["resourceVersion"], queries[2]["allowWatchBookmarks"]) == ("1", "11", "true")

    run(work())


def test_a_watch_goes_on_where_the_one_before_ended_also_by_a_bookmark(tmp_path: Path) -> None:
    async def work() -> None:
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "40"}}}
        replies = listed(SLICE), watched(bookmark), watched(None)
        async with watching(tmp_path, *replies) as (server, _, told, slept):
            await until(lambda: len(server.asked) == 3)
            assert server.asked[2][0]["resourceVersion"] == "40"
            assert told == [A]
            assert len(slept) == 1, "no pause grows of a watch that ends in order"

    run(work())


@pytest.mark.parametrize("how", ["an event", "an answer"])
def test_a_version_that_is_too_old_begins_anew_with_a_list(tmp_path: Path, how: str) -> None:
    async def work() -> None:
        gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
        old = watched({"type": "ERROR", "object": gone}) if how == "an event" else watched(gone, status=410)
        async with watching(tmp_path, listed(SLICE), old, listed(of("10.0.0.2"), version="99"), WAITS) as (server, _, told, _):
            await until(lambda: len(server.asked) == 4)
            assert told == [A, B]
            assert "watch" not in server.asked[2][0]
            assert server.asked[3][0]["resourceVersion"] == "99"

    run(work())


@pytest.mark.parametrize("trouble", ["broken off", "half a line", "500", "403", "no JSON", "refused"])
def test_while_the_api_server_is_away_who_was_known_last_is_asked(tmp_path: Path, trouble: str) -> None:
    async def work() -> None:
        half = json.dumps({"type": "MODIFIED", "object": of("10.0.0.7")}).encode()[:-5]
        bad = {
            "broken off": watched(...), "half a line": watched(half, ...), "500": watched({"message": "ill"}, status=500),
            "403": watched({"message": "not allowed"}, status=403), "no JSON": watched(b"<html>\n"), "refused": watched(...),
        }[trouble]  # fmt: skip
        back = watched({"type": "MODIFIED", "object": of("10.0.0.2", version="20")}, None)
        async with watching(tmp_path, listed(SLICE), bad, bad, bad, back) as (server, watcher, told, slept):
            await until(lambda: len(told) == 2)
            assert told == [A, B], "nothing in between"
            assert [query.get("resourceVersion") for query, _ in server.asked] == [None, "10", "10", "10", "10"]
            assert len(slept) == 3
            assert slept[0] > 0
            assert watcher.failures == 0

    run(work())


def test_pauses_grow_to_a_bound(tmp_path: Path) -> None:
    async def work() -> None:
        async with watching(tmp_path, watched({"message": "ill"}, status=500)) as (_, _, told, slept):
            await until(lambda: len(slept) > 12)
            assert slept[:3] == sorted(slept[:3])
            assert slept[0] < slept[2] < max(slept) == slept[-1] <= 30
            assert told == []

    run(work())


def test_a_token_that_was_changed_is_shown_at_the_next_request(tmp_path: Path) -> None:
    async def work() -> None:
        async with watching(tmp_path, listed(SLICE), watched(None), WAITS) as (server, _, _, _):
            await until(lambda: len(server.asked) == 2)
            (tmp_path / "token").write_text("second\n")
            server.hold.set()
            await until(lambda: len(server.asked) >= 3)
            assert [token for _, token in server.asked[:3]] == ["first", "first", "second"]

    run(work())


def test_a_pod_without_a_token_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="in a cluster"):
        Api.of_pod({}, tmp_path)
    with pytest.raises(EnvironmentProblem):
        Api.of_pod({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    (tmp_path / "token").write_text("t")
    api = Api.of_pod({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}, tmp_path)
    assert (api.host, api.port, api.authority) == ("10.0.0.1", 6443, tmp_path / "ca.crt")
