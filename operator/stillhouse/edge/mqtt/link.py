"""One MQTT 5 connection that stays: paho's network thread on one side, an asyncio loop on the other.

Messages and acknowledgements cross into the loop in the order in which they came. What was published and not acknowledged when
the connection broke is published again by paho; the session at the broker outlives the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from stillhouse.edge.mqtt.broker import Broker
from stillhouse.edge.mqtt.notes import Arrived
from stillhouse.edge.mqtt.troubles import hint, refusal, unreached
from stillhouse.edge.status import Code, RpcError
from stillhouse.errors import UsageError

__all__ = ["NOBODY", "Link", "LinkSettings"]

NOBODY = 0x10
"""The broker's word on a message that nobody subscribes to."""
_CODES = {
    0x87: Code.PERMISSION_DENIED,  # not authorized
    0x90: Code.INVALID_ARGUMENT,  # topic name invalid
    0x95: Code.RESOURCE_EXHAUSTED,  # packet too large
    0x97: Code.RESOURCE_EXHAUSTED,  # quota exceeded
    0x99: Code.INVALID_ARGUMENT,  # payload format invalid
}
_HEAD = 64 << 10
"""Room for a packet's topics and properties."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """`name`: the client's at the broker, where its session is kept `session_s` after a connection.

    `receive`: messages that may come and wait for our acknowledgement (the receive maximum). `largest`: bytes of a payload.
    `publish`: messages that may wait for the broker's acknowledgement; paho does not ask for the broker's limit, and the lowest
    that is usual is 10. `queued`: what may wait beyond these. `base_s`, `cap_s`: waits between attempts to connect, doubled, the
    upper half of each by chance. `manual`: a message is acknowledged by `acknowledge` alone.
    """

    name: str
    session_s: int = 86_400
    receive: int = 64
    largest: int = 8 << 20
    publish: int = 10
    queued: int = 4096
    base_s: float = 0.5
    cap_s: float = 60.0
    manual: bool = False


class Link:
    """`start` begins it, within a running loop. `on_message`, `on_change` (whether it is usable now) are called in the loop."""

    def __init__(
        self,
        broker: Broker,
        settings: LinkSettings,
        subscriptions: Sequence[str],
        on_message: Callable[[Arrived], None],
        on_change: Callable[[bool], None] = lambda usable: None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.usable = False
        self.words = "not connected yet"
        self.refused = False
        """Whether the broker has said no, to our credentials or to what we subscribe to."""
        self.settled = asyncio.Event()
        """Set once the first attempt has ended, well or not."""
        self._broker, self._settings, self._subscriptions = broker, settings, tuple(subscriptions)
        self._on_message, self._on_change, self._uniform = on_message, on_change, uniform
        self._loop: asyncio.AbstractEventLoop | None = None
        self._acknowledged: dict[int, asyncio.Future[int]] = {}
        self._age = 0
        self._tries = 0
        self._closing = False
        self._most = sys.maxsize
        self._client = self._made()

    def _made(self) -> paho.Client:
        settings = self._settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2, settings.name, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=settings.manual
        )
        client.suppress_exceptions = True  # a callback that fails is logged, and does not end the thread
        client.enable_logger(_log.getChild("paho"))
        client.max_inflight_messages_set(settings.publish)
        client.max_queued_messages_set(settings.queued)
        if self._broker.tls is not None:
            client.tls_set_context(self._broker.tls)
        client.on_socket_open = _at_once
        client.on_pre_connect = self._before
        client.on_connect_fail = self._failed
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        client.on_publish = self._published
        client.on_unsubscribe = self._unsubscribed
        return client

    def start(self) -> None:
        """Connect, and connect again whenever it breaks."""
        self._loop = asyncio.get_running_loop()
        wanted: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wanted.SessionExpiryInterval = self._settings.session_s
        wanted.ReceiveMaximum = self._settings.receive
        wanted.MaximumPacketSize = (
            2 * self._settings.largest + _HEAD
        )  # what is a little too large is answered, more does not come
        broker = self._broker
        self._client.connect_async(broker.host, broker.port, broker.keepalive_s, clean_start=False, properties=wanted)
        self._client.loop_start()

    async def publish(self, topic: str, payload: bytes, properties: Properties) -> int:
        """Publish at QoS 1; return the broker's word once it has the message: 0 or `NOBODY`. Waits out a broken connection.

        Raises:
            RpcError: the broker does not take it. RESOURCE_EXHAUSTED: it is too large, or too many wait.
        """
        if len(payload) + _HEAD > self._most:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"the broker takes no message of {len(payload)} bytes")
        sent = self._client.publish(topic, payload, 1, properties=properties)
        if sent.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise RpcError(Code.RESOURCE_EXHAUSTED, "too many messages wait for the broker")
        # The acknowledgement comes through the loop: not before this function waits.
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._acknowledged[sent.mid] = future
        try:
            reason = await future
        finally:
            if self._acknowledged.get(sent.mid) is future:
                del self._acknowledged[sent.mid]
        if reason >= 0x80:
            raise RpcError(_CODES.get(reason, Code.UNAVAILABLE), f"the broker refuses a message on {topic} ({reason:#x})")
        return reason

    def acknowledge(self, arrived: Arrived) -> None:
        """Let the broker forget a message. One of an earlier connection comes again, and its number may be another's by now."""
        if arrived.qos and arrived.age == self._age:
            self._client.ack(arrived.mid, arrived.qos)

    async def unsubscribe(self) -> None:
        """End the subscriptions; what the session still has comes all the same.

        Once this returns, all has come that the broker could send when it had our acknowledgements until now. Nothing is done
        without a connection.
        """
        if self.usable:
            _, mid = self._client.unsubscribe(list(self._subscriptions))
            if mid is not None:
                future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                self._acknowledged[mid] = future
                await future

    async def close(self) -> None:
        """End the connection, not the session."""
        if self._loop is not None:
            self._closing = True
            self._client.disconnect()
            await asyncio.to_thread(self._client.loop_stop)
            self._loop = None
        for each in self._acknowledged.values():
            if not each.done():
                each.set_exception(RpcError(Code.UNAVAILABLE, "the connection to the broker has been closed"))

    # What follows is called by paho's thread.

    def _tell(self, work: Callable[..., None], *given: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(work, *given)

    def _before(self, client: paho.Client, _: Any) -> None:
        most = min(self._settings.cap_s, self._settings.base_s * 2.0 ** min(self._tries, 16))
        wait: Any = self._uniform(most / 2, most)
        client.reconnect_delay_set(wait, wait)  # of the next attempt; paho's own doubles without chance
        self._tries += 1
        if self._broker.credentials is not None:
            try:
                client.username_pw_set(*self._broker.credentials.read())
            except UsageError as error:
                _log.error("the credentials before are used: %s", error)

    def _failed(self, client: paho.Client, _: Any) -> None:
        self._tell(self._now, False, unreached(self._broker, sys.exc_info()[1]), False)

    def _connected(self, client: paho.Client, _: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._tell(self._now, False, refusal(self._broker, str(reason)), True)
            return
        self._age += 1
        self._most = getattr(properties, "MaximumPacketSize", sys.maxsize)
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        client.subscribe([(each, options) for each in self._subscriptions])

    def _subscribed(self, client: paho.Client, _: Any, mid: int, reasons: Any, properties: Any) -> None:
        refused = [topic for topic, reason in zip(self._subscriptions, reasons, strict=False) if reason.is_failure]
        if refused:
            self._tell(self._now, False, f"the broker does not let us subscribe to {', '.join(refused)[:300]}", True)
            return
        self._tries = 0
        self._tell(self._now, True, "", False)

    def _disconnected(self, client: paho.Client, _: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._closing:
            return
        self._tell(self._lost, f"the connection to the broker broke: {reason}{hint(str(reason))}")

    def _message(self, client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        given: Any = message.properties
        self._tell(self._arrived, topic, message, given, self._age)

    def _published(self, client: paho.Client, _: Any, mid: int, reason: Any, properties: Any) -> None:
        self._tell(self._was_published, mid, int(reason.value))

    def _unsubscribed(self, client: paho.Client, _: Any, mid: int, reasons: Any, properties: Any) -> None:
        self._tell(self._was_published, mid, 0)

    # And this by the loop.

    def _arrived(self, topic: str, message: paho.MQTTMessage, given: Any, age: int) -> None:
        self._on_message(
            Arrived(
                topic,
                bytes(message.payload),
                message.mid,
                message.qos,
                age,
                asyncio.get_running_loop().time(),
                getattr(given, "ResponseTopic", ""),
                getattr(given, "CorrelationData", b""),
                getattr(given, "MessageExpiryInterval", None),
                tuple(getattr(given, "UserProperty", ())),
            )
        )

    def _was_published(self, mid: int, reason: int) -> None:
        future = self._acknowledged.get(mid)
        if future is not None and not future.done():
            future.set_result(reason)

    def _lost(self, words: str) -> None:
        self._now(False, self.words if self.refused else words, self.refused)

    def _now(self, usable: bool, words: str, refused: bool) -> None:
        if words and words != self.words:
            _log.log(logging.ERROR if refused else logging.WARNING, "%s", words)
        changed = usable != self.usable
        self.usable, self.words, self.refused = usable, words, refused
        self.settled.set()
        if changed:
            if usable:
                _log.info("connected to the broker %s:%d", self._broker.host, self._broker.port)
            self._on_change(usable)


def _at_once(client: paho.Client, _: Any, sock: Any) -> None:
    """Have small packets sent without waiting for the acknowledgement of those before; paho does not ask for it."""
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
