"""The cloud's side: takes requests from the broker, asks the backends, answers where the request says.

A request is acknowledged once the broker has its answer. A bridge that is killed has acknowledged nothing that it did not
answer: the broker sends that again when the bridge is back (its session is kept), and a device may get an answer twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from stillhouse.edge.cascade.remote import Backends
from stillhouse.edge.mqtt.broker import Broker
from stillhouse.edge.mqtt.link import Link, LinkSettings
from stillhouse.edge.mqtt.notes import Arrived, notes
from stillhouse.edge.mqtt.topics import Topics, digest_of
from stillhouse.edge.mqtt.words import CODE, CONTENT, INFER, KEY, PASSED, TEXT, TIMEOUT
from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.status import Code, RpcError
from stillhouse.errors import UsageError

__all__ = ["Bridge", "BridgeSettings"]

_REQUEST = message("ModelInferRequest")
_KEY = re.compile(rb"[!-~]{1,128}")
_TEXT = 2048
_GROUP = re.compile(r"[^/+#\x00-\x1f]{1,64}")
_Identity = tuple[str, bytes, str]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """`name`: the client's at the broker, one for each bridge and the same after a restart. `group`: bridges that share the work.

    `at_once`: requests that are under way; the broker keeps the others. `largest`: bytes of a request, or of an answer.
    `default_s`, `longest_s`: how long a request may take that names no time, and any. `session_s`: how long the broker keeps what
    is meant for a bridge that is away. `answer_s`: how long answers wait for their device.
    `grace_s`: what is under way at the end has so long. `stay`: at the end, the broker keeps new requests for this bridge
    (one that is alone and comes back soon); else it leaves the group, and others get them.
    """

    name: str
    topics: Topics = field(default_factory=Topics)
    group: str = "stillhouse"
    at_once: int = 64
    largest: int = 8 << 20
    default_s: float = 30.0
    longest_s: float = 600.0
    session_s: int = 300
    answer_s: int = 86_400
    grace_s: float = 30.0
    stay: bool = False


class Bridge:
    """`backends`: who answers, by model. `counts`: answers by code's name, and `refused`: what could not be answered."""

    def __init__(self, broker: Broker, settings: BridgeSettings, backends: Mapping[str, Backends]) -> None:
        """Check the settings.

        Raises:
            UsageError: a prefix, the group or a model's name is none.
        """
        settings.topics.check()
        if not _GROUP.fullmatch(settings.group):
            raise UsageError("this is no name of a group", field="group", found=settings.group[:100], allowed="no / + #")
        self.counts: Counter[str] = Counter()
        self._settings, self._backends = settings, dict(backends)
        self._running: dict[_Identity, list[Arrived]] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False
        try:
            for each in backends:
                settings.topics.request(each, "device")
        except RpcError as error:
            raise UsageError("this model cannot be named by a topic", field="model", found=error.message) from error
        self._link = Link(
            broker,
            LinkSettings(
                settings.name,
                settings.session_s,
                settings.at_once,
                settings.largest,
                publish=min(settings.at_once, 10),
                manual=True,
            ),
            [settings.topics.requests_of(each, settings.group) for each in backends],
            self._take,
        )

    @property
    def ready(self) -> bool:
        """Return whether it is connected and subscribed."""
        return self._link.usable

    @property
    def words(self) -> str:
        """Return why it is not; empty where it is."""
        return self._link.words

    async def run(self, stop: asyncio.Event, listening: asyncio.Event | None = None) -> None:
        """Bridge until `stop`; then take nothing more and end what is under way. `listening` is set at the first connection.

        Raises:
            UsageError: the broker refuses us at the first attempt: the credentials, or what we subscribe to.
        """
        link = self._link
        link.start()
        stopping = asyncio.ensure_future(stop.wait())
        settled = asyncio.ensure_future(link.settled.wait())
        try:
            await asyncio.wait({stopping, settled}, return_when=asyncio.FIRST_COMPLETED)
            if link.refused:
                raise UsageError(
                    "the broker refuses the bridge",
                    field="broker",
                    found=link.words,
                    fix="look at the user, the password, and the broker's access list (docs/mqtt.md)",
                )
            if listening is not None:
                listening.set()
            await stopping
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.grace_s):
                    await self._end()
        finally:
            for each in (stopping, settled, *self._tasks):
                each.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await link.close()
            for pool in self._backends.values():
                await pool.close()

    async def _end(self) -> None:
        """Take what the broker has for us already, unless it is to stay there; then nothing, and wait for what is under way."""
        if not self._settings.stay:
            while True:
                await self._link.unsubscribe()
                if not self._tasks:
                    break
                await asyncio.wait(self._tasks)
        self._ending = True
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _take(self, arrived: Arrived) -> None:
        if self._ending:
            return  # not acknowledged: it comes again
        model, device = self._settings.topics.asked(arrived.topic)
        if not self._settings.topics.allows(device, arrived.response):
            self.counts["refused"] += 1
            _log.warning(
                "a request on %s wants its answer on %.200r, which is not its device's: dropped", arrived.topic, arrived.response
            )
            self._link.acknowledge(arrived)
            return
        # Without correlation data nothing says that two messages are one request.
        told_apart = digest_of(arrived.payload) if arrived.correlation else str(next(self._numbers))
        identity = (arrived.response, arrived.correlation, told_apart)
        if identity in self._running:
            self._running[identity].append(arrived)  # it came again, after a new connection say, and is under way still
            return
        if not arrived.qos and len(self._running) >= self._settings.at_once:
            self.counts["refused"] += 1  # at QoS 0 nothing holds the broker back, and the sender has asked for no care
            return
        self._running[identity] = [arrived]
        task = asyncio.get_running_loop().create_task(self._handle(identity, arrived, model))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, identity: _Identity, arrived: Arrived, model: str) -> None:
        try:
            told: list[tuple[str, str]] = []
            try:
                body = await self._ask(arrived, model)
                if len(body) > self._settings.largest:
                    raise RpcError(
                        Code.RESOURCE_EXHAUSTED, f"an answer of {len(body)} bytes; {self._settings.largest} are allowed"
                    )
                code = Code.OK
            except RpcError as error:
                code, body = error.code, b""
                told = [(CODE, str(int(code))), (TEXT, _clean(error.message))]
            except Exception as error:
                _log.exception("a request on %s failed", arrived.topic)
                code, body = Code.INTERNAL, b""
                told = [(CODE, str(int(code))), (TEXT, f"the bridge failed: {type(error).__name__}")]
            properties = notes(
                told,
                content=CONTENT.format("ModelInferResponse") if code == Code.OK else "",
                correlation=arrived.correlation,
                expiry_s=self._settings.answer_s,
            )
            try:
                await self._link.publish(arrived.response, body, properties)
                self.counts[code.name] += 1
            except RpcError as error:
                if error.code == Code.UNAVAILABLE:
                    _log.warning("an answer on %s was not taken: %s", arrived.response, error)
                    return  # the request stays at the broker
                self.counts["refused"] += 1
                _log.error("an answer on %s is refused by the broker: %s", arrived.response, error)
            for each in self._running[identity]:
                self._link.acknowledge(each)
        finally:
            del self._running[identity]

    async def _ask(self, arrived: Arrived, model: str) -> bytes:
        settings = self._settings
        if len(arrived.payload) > settings.largest:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{len(arrived.payload)} bytes; {settings.largest} are allowed")
        backends = self._backends.get(model)
        if backends is None:
            raise RpcError(Code.NOT_FOUND, f"there is no model {model[:100]!r}")
        named = str(parsed(_REQUEST, arrived.payload).model_name)
        if named != model:
            raise RpcError(Code.INVALID_ARGUMENT, f"the request is for {named[:100]!r}, its topic for {model[:100]!r}")
        left = self._time(arrived) - (asyncio.get_running_loop().time() - arrived.at)
        key = arrived.correlation
        text = key.decode("ascii") if _KEY.fullmatch(key) else key[:64].hex()
        metadata = tuple((name, value) for name, value in arrived.notes if name in PASSED)
        try:
            async with asyncio.timeout(left):
                sent = await backends.unary(
                    INFER, arrived.payload, metadata=(*metadata, (KEY, text)) if text else metadata, told_s=left
                )
        except TimeoutError:
            raise RpcError(Code.DEADLINE_EXCEEDED, f"{model}: no answer in {max(left, 0.0):.3g} s") from None
        return sent.message

    def _time(self, arrived: Arrived) -> float:
        """Return the seconds that a request has: the least of what it was given, what the broker has left of it, and our own."""
        told = dict(arrived.notes).get(TIMEOUT, "")
        given = [self._settings.longest_s]
        if told.isascii() and told.isdigit() and len(told) < 10:
            given.append(int(told) / 1000)
        if arrived.expiry_s is not None:
            given.append(float(arrived.expiry_s))
        return min(given) if len(given) > 1 else self._settings.default_s


def _clean(text: str) -> str:
    """Return text as a user property may have it: no control characters, and not too long."""
    return "".join(each if each.isprintable() else " " for each in text[:_TEXT])
