"""From a gateway's configuration to the sender of a model behind a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhouse.edge.mqtt.broker import Credentials, broker
from stillhouse.edge.mqtt.topics import Topics, machine
from stillhouse.edge.report import AtBroker
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.sections.places import LargerMqtt
from stillhouse.errors import MissingPackages
from stillhouse.extras import install

if TYPE_CHECKING:
    from stillhouse.edge.mqtt.sender import MqttSender

__all__ = ["Senders"]

_LARGEST = 8 << 20


class Senders:
    """A gateway's connections to brokers: one for each broker and name, since a broker ends the older of two of one name."""

    def __init__(self) -> None:
        self._made: dict[LargerMqtt, MqttSender] = {}

    def pool_over(self, given: LargerMqtt, largest: int) -> Pool:
        """Return a pool of one sender, which begins to connect; within a running loop.

        `largest`: bytes of a message (8 MiB at most). An empty `device` is the machine's name.

        Raises:
            MissingPackages: the extra `mqtt` is not installed.
            UsageError: the broker's address, a file or a name is wrong.
        """
        whose = given.model_copy(update={"model": ""})
        if whose not in self._made:
            self._made[whose] = _sender(given, largest)
        sender = self._made[whose]
        pool = Pool(lambda address: sender)
        pool.update({given.broker: 1.0})
        return pool

    def seen(self) -> list[AtBroker]:
        """Return how the connections are."""
        return [AtBroker(of.broker, sender.device, sender.ready, sender.words) for of, sender in self._made.items()]


def _sender(given: LargerMqtt, largest: int) -> MqttSender:
    try:
        from stillhouse.edge.mqtt.sender import DeviceSettings, MqttSender
    except ModuleNotFoundError as error:
        raise MissingPackages(f"the package {error.name} is missing", fix=install("mqtt")) from error
    where = broker(
        given.broker,
        authority=given.authority,
        own=(given.certificate, given.key) if given.certificate and given.key else None,
        credentials=Credentials(given.username, given.password) if given.username and given.password else None,
    )
    settings = DeviceSettings(given.device or machine(), Topics(given.requests, given.answers), min(largest, _LARGEST))
    sender = MqttSender(where, settings)
    sender.start()
    return sender
