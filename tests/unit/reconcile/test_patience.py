"""What kopf is told where it would end for good."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio import client

from stillhouse.entrypoints.cluster.patience import Backoffs, PatientAnswer, mended, newest_token, pieces


@asynccontextmanager
async def answering(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Serve one answer on loopback; yield its URL."""
    app = web.Application()
    app.router.add_get("/pods", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/pods"
    finally:
        await runner.cleanup()


def asked(status: int, query: str) -> tuple[int, bytes]:
    """Return status and body of an answer as kopf sees it."""

    async def run() -> tuple[int, bytes]:
        async def answer(request: web.Request) -> web.Response:
            return web.json_response({"kind": "Status", "code": status}, status=status)

        async with (
            answering(answer) as url,
            aiohttp.ClientSession(response_class=PatientAnswer) as session,
            session.get(f"{url}?{query}") as found,
        ):
            return found.status, await found.content.read()

    return asyncio.run(run())


@pytest.mark.parametrize("status", [400, 404, 409, 410, 422])
def test_a_refused_watch_is_one_whose_version_is_too_old_and_a_refused_list_breaks_off(status: int) -> None:
    found, body = asked(status, "watch=true")
    assert found == 200
    assert json.loads(body)["object"]["code"] == 410
    with pytest.raises(aiohttp.ClientPayloadError, match=str(status)):
        asked(status, "limit=500")
    assert asked(status, "")[0] == status  # whether a kind is known at all


@pytest.mark.parametrize("status", [200, 403, 429, 500, 503])
@pytest.mark.parametrize("query", ["watch=true", "limit=500"])
def test_what_kopf_can_bear_is_left_as_it_is(status: int, query: str) -> None:
    found, body = asked(status, query)
    assert found == status
    assert json.loads(body)["code"] == status


def test_who_is_not_known_asks_again_with_the_token_of_that_moment() -> None:
    async def run() -> list[str]:
        seen: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            seen.append(request.headers["Authorization"])
            return web.json_response({}, status=401)

        async def renew(configuration: client.Configuration) -> None:
            configuration.api_key["BearerToken"] = f"Bearer {len(seen)}"

        configuration = client.Configuration()
        configuration.api_key = {"BearerToken": "Bearer old"}
        configuration.refresh_api_key_hook = renew
        ways = {"response_class": PatientAnswer, "middlewares": (newest_token(configuration),)}
        async with answering(answer) as url, aiohttp.ClientSession(**ways) as session:  # type: ignore[arg-type]
            for _ in range(2):
                async with session.get(url) as found:
                    assert found.status == 503
        return seen

    assert asyncio.run(run()) == ["Bearer 0", "Bearer 1"]


def test_a_connection_that_was_closed_between_two_reads_is_an_answer_that_broke_off() -> None:
    class Closed:
        async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
            yield b"x"
            raise RuntimeError("Connection closed.")

    async def run() -> list[bytes]:
        return [data async for data in pieces(Closed(), 1)]  # type: ignore[arg-type]

    with pytest.raises(aiohttp.ClientPayloadError, match="closed"):
        asyncio.run(run())


def test_every_error_of_a_watch_is_the_one_after_which_kopf_lists_anew() -> None:
    told = json.loads(mended(b'{"type":"ERROR","object":{"kind":"Status","code":500}}'))
    assert (told["type"], told["object"]["code"]) == ("ERROR", 410)
    assert mended(b'{"type":"ADDED","object":{}}') == b'{"type":"ADDED","object":{}}'


def test_requests_are_tried_for_ever() -> None:
    some = list(itertools.islice(Backoffs(), 1000))
    assert some[0] == 1.0
    assert max(some) == some[-1] == 30.0
    assert list(itertools.islice(Backoffs(), 1000)) == some  # each request begins anew
