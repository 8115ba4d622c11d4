"""REST at the front: which request is which call. A call goes to the very handler that a gRPC client's would go to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import orjson
from httpunk import HeaderMap, Version
from httpunk.exceptions import HTTPunkError

from stillhouse.edge.oip.messages import METHODS, SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.rest.bodies import body_of, document, left_out, parted
from stillhouse.edge.rest.documents import plain
from stillhouse.edge.rest.inference import request_of, response_of
from stillhouse.edge.rest.model_config import config_of
from stillhouse.edge.rest.problems import STATUS, HttpProblem, headers_of
from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.wire.call import Call, Limits, Peer
from stillhouse.edge.wire.headers import timeout_of
from stillhouse.edge.wire.room import Held
from stillhouse.edge.wire.server import Unary
from stillhouse.edge.wire.watch import Watch

__all__ = ["Rest"]

_JSON, _BINARY = ("content-type", "application/json"), ("content-type", "application/octet-stream")
_LENGTH = "inference-header-content-length"
_ONWARD = frozenset({"authorization", "baggage", "idempotency-key", "traceparent", "tracestate"})
"""Headers that are a call's metadata, with those that begin with `x-`. Others are HTTP's own affairs, such as cookies."""
_PROXIES = ("x-forwarded-", "x-real-ip")
_EXTENSION = "binary_tensor_data"
_OF_A_MODEL = {"ready": "ModelReady", "stats": "ModelStatistics", "config": "ModelConfig", "": "ModelMetadata"}

_log = logging.getLogger(__name__)

Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers, body."""


class Rest:
    """Answers plain HTTP requests (`wire.server.Http`) with `Service.methods()`: what holds there holds here too.

    `limits`: `message` bounds a body, also inflated; `body_s` how long it may take to come. `who` refuses clients that are not
    known (`Door.client`): before their JSON is read, which costs more than a message.
    """

    def __init__(self, unary: Mapping[str, Unary], limits: Limits, who: Callable[[Call], object] = lambda _: None) -> None:
        self._unary, self._limits, self._who = dict(unary), limits, who
        self._kinds = {name: (message(f"{name}Request"), message(f"{name}Response")) for name in METHODS}

    async def answer(self, request: Any, peer: Peer) -> None:
        """Answer one request; whatever is in it, the client gets JSON."""
        asked = _Asked(request)
        try:
            status, headers, body = await self._answer(request, asked, peer)
        except HttpProblem as problem:
            status, headers, body = _told(problem.status, problem.message, problem.headers)
        except RpcError as error:
            status, headers, body = _told(STATUS[error.code], error.message or error.code.name, tuple(headers_of(error)))
        except HTTPunkError:
            raise  # the client has gone: there is nobody to answer
        except Exception:
            _log.exception("a handler of %s failed", request.path)
            status, headers, body = _told(500, "the gateway failed; its log says why")
        if request.version is Version.HTTP_2:
            headers = [each for each in headers if each[0] != "connection"]
        elif asked.ends:
            headers = [*headers, ("connection", "close")]
        await request.respond(status, headers=headers, body=body)

    async def _answer(self, request: Any, asked: _Asked, peer: Peer) -> Answer:
        loop = asyncio.get_running_loop()
        call = Call(asked, peer, None)
        problem: HttpProblem | RpcError | None = None
        words: list[str] = []
        try:
            if asked.size > self._limits.headers:
                raise HttpProblem(431, f"headers of more than {self._limits.headers} bytes")
            words = _route(request)
            left = _time_of(request)
            call.deadline = None if left is None else loop.time() + left
            if words[-1:] == ["infer"]:
                self._who(call)
        except (HttpProblem, RpcError) as error:
            problem = error
        watch = Watch(loop, asked, call.deadline, self._limits.body_s)
        there = False
        held = Held.arriving(peer.load)
        try:
            if problem is not None:
                asked.ends = not await left_out(request)
                raise problem
            body = await body_of(request, self._limits.message, held.more)
            watch.body_is_there()
            held.end()
            there = True
            return await self._called(words, request, call, body)
        except asyncio.CancelledError:
            if not watch.late():
                raise
            if not there:
                raise HttpProblem(408, "the body does not come") from None
            raise RpcError(Code.DEADLINE_EXCEEDED, "the deadline has passed") from None
        except RpcError:
            asked.ends = asked.ends or not there  # the rest of its body is not read
            raise
        finally:
            watch.end()
            held.end()

    async def _called(self, words: list[str], request: Any, call: Call, body: bytes) -> Answer:
        match words:
            case ["models", "stats"]:
                return await self._all_statistics(call)
            case ["models", model, *rest] if rest[-1:] == ["infer"]:
                return await self._infer(model, rest[1] if len(rest) == 3 else "", request, call, body)
            case ["models", model, *rest]:
                version = rest[1] if rest[:1] == ["versions"] else ""
                return await self._of_a_model(rest[-1] if len(rest) in (1, 3) else "", model, version, call)
            case ["health", what]:
                told = await self._asked(call, "ServerLive" if what == "live" else "ServerReady")
                return _json(plain(told), 200 if getattr(told, what) else 503)
            case ["repository", "index"]:
                ready = document(body).get("ready", False) if body else False
                if not isinstance(ready, bool):
                    raise HttpProblem(400, "ready: true or false is expected")
                return _json([plain(each) for each in (await self._asked(call, "RepositoryIndex", ready=ready)).models])
        found = plain(await self._asked(call, "ServerMetadata"))
        found["extensions"].append(_EXTENSION)
        return _json(found)

    async def _infer(self, model: str, version: str, request: Any, call: Call, body: bytes) -> Answer:
        text, binary = parted(body, request.headers.get(_LENGTH))
        message, wanted = request_of(model, version, text, binary)
        answer = await self._call(call, "ModelInfer", message.SerializeToString())
        found, length = response_of(answer, wanted)
        if length is None:
            return 200, [_JSON], found
        return 200, [_BINARY, (_LENGTH, str(length))], found

    async def _all_statistics(self, call: Call) -> Answer:
        names = [each.name for each in (await self._asked(call, "RepositoryIndex")).models]
        told = [await self._asked(call, "ModelStatistics", name=name) for name in names]
        return _json({"model_stats": [each for one in told for each in plain(one)["model_stats"]]})

    async def _of_a_model(self, what: str, model: str, version: str, call: Call) -> Answer:
        name = _OF_A_MODEL[what]
        if name == "ModelConfig":  # it has no message among the protocol's own: it asks as every one of a model does
            body = self._kinds["ModelMetadata"][0](name=model, version=version).SerializeToString()
            answer = await self._call(call, name, body)
            return _json(plain(_read(lambda: config_of(answer))))
        told = await self._asked(call, name, name=model, version=version)
        return _json(plain(told), 200 if name != "ModelReady" or told.ready else 503)

    async def _asked(self, call: Call, method: str, /, **fields: object) -> Any:
        request, response = self._kinds[method]
        answer = await self._call(call, method, request(**fields).SerializeToString())
        return _read(lambda: parsed(response, answer))

    async def _call(self, call: Call, name: str, body: bytes) -> bytes:
        call.method = f"/{SERVICE}/{name}"
        return (await self._unary[call.method](call, body)).message


def _read(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except RpcError as error:
        raise RpcError(Code.INTERNAL, f"the backend's answer cannot be read: {error.message}") from error


class _Asked:
    """What a `Call` and a `Watch` need of a request, without what is only HTTP's.

    `ends`: the connection does with the answer. `size`: of the headers, as HTTP/2 counts it; HTTP/1 has no bound of its own that
    a backend would take.
    """

    __slots__ = ("_request", "ends", "headers", "path", "size")

    def __init__(self, request: Any) -> None:
        self._request, self.path, self.ends = request, "", False
        headers = request.headers.items()
        self.size = sum(len(name) + len(value) + 32 for name, value in headers)
        self.headers = HeaderMap([(name, value) for name, value in headers if _goes_on(name)])

    async def reset_received(self) -> None:
        """Return when the client has gone before its answer."""
        if hasattr(self._request, "reset_received"):
            await self._request.reset_received()
        elif not await self._request.peer_closed():  # HTTP/1: it also ends when the exchange does
            await asyncio.Future()


def _goes_on(name: str) -> bool:
    return name in _ONWARD or (name.startswith("x-") and not name.startswith(_PROXIES) and not name.endswith("-bin"))


def _words(path: str | None) -> list[str]:
    """Return the parts of a path, each decoded for itself: a model's name may have a slash."""
    path = path or ""
    if "://" in path[:8]:  # the absolute form, as proxies have it
        path = "/" + path.partition("://")[2].partition("/")[2]
    return [unquote(each) for each in path.partition("?")[0].strip("/").split("/")]


def _route(request: Any) -> list[str]:
    """Return the parts of a path that is one of the protocol's, without its /v2.

    Raises:
        HttpProblem: 404, there is no such path; 405, it is asked for in another way.
    """
    words = _words(request.path)
    if words[:1] != ["v2"]:
        raise HttpProblem(404, "there is nothing here; the protocol begins at /v2")
    match words[1:]:
        case [] | ["health", "live" | "ready"] | ["models", "stats"]:
            _only(request, "GET")
        case ["repository", "index"] | ["models", _, "infer"] | ["models", _, "versions", _, "infer"]:
            _only(request, "POST")
        case ["models", _] | ["models", _, "versions", _]:
            _only(request, "GET")
        case ["models", _, "ready" | "stats" | "config"] | ["models", _, "versions", _, "ready" | "stats" | "config"]:
            _only(request, "GET")
        case _:
            raise HttpProblem(404, f"there is no /{'/'.join(words)[:200]}")
    return words[1:]


def _only(request: Any, method: str) -> None:
    if request.method != method and not (method == "GET" and request.method == "HEAD"):
        raise HttpProblem(405, f"{request.method[:20]}: {method} is expected", (("allow", method),))


def _time_of(request: Any) -> float | None:
    try:
        return timeout_of(request.headers.get("grpc-timeout"))
    except RpcError as error:
        raise HttpProblem(400, error.message) from None


def _json(found: Any, status: int = 200) -> Answer:
    return status, [_JSON], orjson.dumps(found)


def _told(status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    printable = message.encode("utf-8", "replace").decode("utf-8")
    return status, [_JSON, *headers], orjson.dumps({"error": printable})
