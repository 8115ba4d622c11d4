"""The device's side: a sender (`route.pool.Sender`) whose server is behind a broker.

A cascade's larger leg takes it in the place of a pool. While there is no connection, calls end with UNAVAILABLE at once, so that
the policy for an absent cloud decides; with `queue` the courier brings the request later, under the same key.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from stillhouse.edge.away.keys import check_key, new_key
from stillhouse.edge.mqtt.broker import Broker
from stillhouse.edge.mqtt.link import NOBODY, Link, LinkSettings
from stillhouse.edge.mqtt.notes import Arrived, notes
from stillhouse.edge.mqtt.topics import Topics, check_device, digest_of
from stillhouse.edge.mqtt.words import CODE, CONTENT, INFER, KEY, PASSED, TEXT, TIMEOUT
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.status import Code, Metadata, Refused, Reply, RpcError

__all__ = ["DeviceSettings", "MqttSender"]

_REQUEST = message("ModelInferRequest")
_LATE = 1024
_ABOUT = {
    f"/{SERVICE}/{name}": (message(f"{name}Request"), message(f"{name}Response")) for name in ("ModelReady", "ModelMetadata")
}


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """`device`: this one's name, which no other has at the broker. `largest`: bytes of a request or an answer.

    `default_s`: of a call that names no time. `patience_s`: how long calls under way outlast a broken connection.
    `session_s`: how long answers wait at the broker for a device that is away. `late`: bytes of answers that came when nobody
    waited any more; the courier's next attempt finds them.
    """

    device: str
    topics: Topics = field(default_factory=Topics)
    largest: int = 8 << 20
    default_s: float = 30.0
    patience_s: float = 2.0
    session_s: int = 86_400
    late: int = 16 << 20


_Id = tuple[bytes, str]


class MqttSender:
    """Calls to models behind a broker. It connects with the first call, or with `start`."""

    def __init__(
        self,
        broker: Broker,
        settings: DeviceSettings,
        *,
        wall: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Check the settings. Raises UsageError: the device's name or a prefix is none."""
        settings.topics.check()
        self.device = check_device(settings.device)
        self.in_flight = 0
        self._broker, self._settings, self._wall, self._uniform = broker, settings, wall, uniform
        self._link: Link | None = None
        self._asked: dict[_Id, tuple[asyncio.Future[Reply], int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: OrderedDict[_Id, bytes] = OrderedDict()
        self._late_bytes = 0
        self._lost: asyncio.TimerHandle | None = None
        self._leaving = False

    @property
    def ready(self) -> bool:
        """Return whether there is a connection."""
        return self._link is not None and self._link.usable

    @property
    def words(self) -> str:
        """Return why there is no connection; empty where there is one."""
        return self._link.words if self._link is not None else "closed"

    @property
    def late(self) -> int:
        """Return how many answers have come that nobody waited for, and are kept."""
        return len(self._late)

    def start(self) -> None:
        """Begin to connect; within a running loop."""
        if self._link is not None:
            return
        settings = self._settings
        self._link = Link(
            self._broker,
            LinkSettings(self.device, session_s=settings.session_s, largest=settings.largest),
            [settings.topics.answers_of(self.device)],
            self._answered,
            self._changed,
            self._uniform,
        )
        self._link.start()

    async def unary(self, method: str, message: bytes, *, metadata: Metadata = (), told_s: float | None = None) -> Reply:
        """Ask for an inference; `told_s`: seconds that are left (None: the settings'), after which it ends here too.

        The same request under the same `idempotency-key` is published once while it is under way.

        Raises:
            RpcError: as the bridge says. UNAVAILABLE: no connection, or nobody takes this model's requests.
            DEADLINE_EXCEEDED: no answer in time. PERMISSION_DENIED: the broker does not let this device ask.
        """
        if method in _ABOUT:
            return self._about(*_ABOUT[method], message)
        if method != INFER:
            raise Refused(Code.UNIMPLEMENTED, f"{method} does not go over MQTT")
        if len(message) > self._settings.largest:
            raise Refused(Code.RESOURCE_EXHAUSTED, f"{len(message)} bytes; over MQTT {self._settings.largest} are allowed")
        topic = self._settings.topics.request(str(parsed(_REQUEST, message).model_name), self.device)
        named = [value for name, value in metadata if name == KEY and isinstance(value, str)]
        key = check_key(named[0]) if named else new_key(self._wall())
        identity = (key.encode("ascii"), digest_of(message))
        late = self._late.pop(identity, None)
        if late is not None:
            self._late_bytes -= len(late)
            return Reply(late)
        left = self._settings.default_s if told_s is None else told_s
        self.in_flight += 1
        try:
            async with asyncio.timeout(left):
                link = await self._connected()
                passed = [(name, value) for name, value in metadata if name in PASSED and isinstance(value, str)]
                return await self._answer(link, identity, topic, message, passed, left)
        except TimeoutError:
            raise RpcError(
                Code.DEADLINE_EXCEEDED,
                f"no answer over MQTT in {left:.3g} s: see whether a bridge of the model runs (docs/mqtt.md)",
            ) from None
        finally:
            self.in_flight -= 1
            if self._leaving and not self.in_flight:
                self._later(self.close())

    def _about(self, asked: Any, answer: Any, body: bytes) -> Reply:
        """Answer what does not go over MQTT: whether there is a connection, and a model of which its name is known."""
        made = answer(name=parsed(asked, body).name) if "name" in answer.DESCRIPTOR.fields_by_name else answer(ready=self.ready)
        return Reply(made.SerializeToString())

    def leave(self) -> None:
        """End the connection as soon as nothing is under way."""
        self._leaving = True
        if not self.in_flight:
            self._later(self.close())

    async def close(self) -> None:
        """End the connection now; answers that come later wait at the broker."""
        link, self._link = self._link, None
        if self._lost is not None:
            self._lost.cancel()
            self._lost = None
        self._fail("the connection to the broker has been closed")
        if link is not None:
            await link.close()

    async def _connected(self) -> Link:
        if self._link is None:
            self.start()
        link = self._link
        assert link is not None
        if not link.usable:
            await link.settled.wait()
        if not link.usable:
            raise RpcError(Code.UNAVAILABLE, link.words, unprocessed=True)
        return link

    async def _answer(
        self, link: Link, identity: _Id, topic: str, body: bytes, passed: list[tuple[str, str]], left: float
    ) -> Reply:
        future, waiting = self._asked.get(identity, (None, 0))
        if future is None:
            future = asyncio.get_running_loop().create_future()
            properties = notes(
                [(TIMEOUT, str(max(1, int(left * 1000)))), *passed],
                content=CONTENT.format("ModelInferRequest"),
                correlation=identity[0],
                response=self._settings.topics.answer(self.device, identity[1]),
                expiry_s=math.ceil(left),
            )
            self._later(self._publish(link.publish(topic, body, properties), future, topic))
        self._asked[identity] = (future, waiting + 1)
        try:
            return await asyncio.shield(future)
        finally:
            kept, waiting = self._asked.get(identity, (None, 0))
            if kept is future:
                if waiting > 1:
                    self._asked[identity] = (future, waiting - 1)
                else:
                    del self._asked[identity]
                    future.cancel()

    async def _publish(self, publishing: Coroutine[Any, Any, int], future: asyncio.Future[Reply], topic: str) -> None:
        try:
            if await publishing != NOBODY:
                return
            error = RpcError(
                Code.UNAVAILABLE,
                f"nobody takes requests on {topic}: no bridge runs for this model (docs/mqtt.md)",
                unprocessed=True,
            )
        except RpcError as refused:
            error = refused
        if not future.done():
            future.set_exception(error)

    def _answered(self, arrived: Arrived) -> None:
        identity = (arrived.correlation, self._settings.topics.answered(arrived.topic))
        told = dict(arrived.notes)
        code = told.get(CODE, "0")
        future = self._asked.get(identity, (None, 0))[0]
        if future is None or future.done():
            if code == "0":
                self._keep(identity, arrived.payload)
        elif code == "0":
            future.set_result(Reply(arrived.payload))
        else:
            number = int(code) if code.isascii() and code.isdigit() and len(code) < 3 else int(Code.UNKNOWN)
            future.set_exception(RpcError(number or Code.UNKNOWN, told.get(TEXT, "")[:2048]))

    def _keep(self, identity: _Id, body: bytes) -> None:
        """Keep an answer that nobody waits for, the youngest ones in place of the oldest."""
        self._late_bytes += len(body) - len(self._late.pop(identity, b""))
        self._late[identity] = body
        while self._late and (self._late_bytes > self._settings.late or len(self._late) > _LATE):
            self._late_bytes -= len(self._late.popitem(last=False)[1])

    def _changed(self, usable: bool) -> None:
        if self._lost is not None:
            self._lost.cancel()
            self._lost = None
        if not usable and self._link is not None:
            words = self._link.words
            self._lost = asyncio.get_running_loop().call_later(self._settings.patience_s, self._fail, words)

    def _fail(self, words: str) -> None:
        for future, _ in self._asked.values():
            if not future.done():
                future.set_exception(RpcError(Code.UNAVAILABLE, words))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
