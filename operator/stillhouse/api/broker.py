"""A broker of MQTT, as a cluster has it: what is shown to it are Secrets of the namespace."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.guarding import SecretName
from stillhouse.api.scalars import Quantity

__all__ = ["Broker", "Mqtt"]

BrokerAddress = Annotated[
    str,
    StringConstraints(
        pattern=r"^mqtts?://(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?):[1-9][0-9]{0,4}$", max_length=280
    ),
]

_CERTIFICATES_OF_TLS = CelRule(
    "self.address.startsWith('mqtts://') || (!has(self.authority) && !has(self.certificate))",
    "authority and certificate belong to an address of mqtts://",
    "address",
)


class Broker(ApiModel):
    """What is shown to a broker, in a cluster; `still edge` takes files."""

    credentials: SecretName | None = None
    """Secret of type `kubernetes.io/basic-auth`: `username` and `password`, read anew for each connection; left out: none."""
    certificate: SecretName | None = None
    """Secret of type `kubernetes.io/tls` whose certificate is shown; left out: none."""


class Mqtt(Broker):
    """A bridge between a broker and the model, in a cluster: it answers what devices ask on `stillhouse/infer/MODEL/DEVICE`.

    On one machine: `python -m stillhouse.entrypoints.bridge` (docs/mqtt.md).
    """

    address: BrokerAddress
    """The broker, as `mqtts://HOST:PORT` (`mqtt://` without TLS)."""
    authority: SecretName | None = None
    """Secret with `ca.crt` of the broker's certificate; left out: the system's authorities."""
    backend_authority: SecretName | None = None
    """Secret with `ca.crt` of `edge.tls.secret`, whose certificate is for MODEL.NAMESPACE.svc; left out: the system's
    authorities."""
    backend_token: SecretName | None = None
    """Secret with `token`, one of `edge.clients.tokens`, which the bridge shows: to the gateway all devices are this client."""
    replicas: Annotated[int, Field(ge=1, le=100)] = 1
    """Pods, which share the requests."""
    memory: Quantity = "512Mi"
    """Memory of a pod. A request has up to 8 MiB, and its answer; so many are under way as half of the memory has place for."""

    cel_rules = (_CERTIFICATES_OF_TLS,)

    @model_validator(mode="after")
    def _certificates_of_tls(self) -> Mqtt:
        if not self.address.startswith("mqtts://") and (self.authority or self.certificate):
            raise _CERTIFICATES_OF_TLS.broken(fix="write mqtts:// in the address, or remove both")
        return self
