"""Where a model is: in this process, on servers, in pods, behind a broker."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stillhouse.edge.sections.base import File, Part

__all__ = ["Backends", "Engine", "Larger", "LargerBackends", "LargerMqtt", "LargerSlices", "Lower", "Slices", "Steps"]

Address = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}$")]
"""HOST:PORT, [IPV6]:PORT."""
Weights = Annotated[dict[Address, Annotated[float, Field(ge=0, le=1000)]], Field(min_length=1)]


class _Model(Part):
    digest: str = ""
    variant: str = ""


class Engine(_Model):
    """The model in this process: a folder with `model.onnx`, `signature.json`, `tokenizer.json`."""

    kind: Literal["engine"]
    folder: File
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class Backends(_Model):
    """Servers of the protocol: HOST:PORT → weight."""

    kind: Literal["backends"]
    backends: Weights


class Slices(_Model):
    """Pods behind a Service of the cluster."""

    kind: Literal["slices"]
    namespace: str
    service: str
    port: Annotated[int, Field(ge=1, le=65535)] = 8001


class Steps(_Model):
    """No model: a folder with `preprocess.json` and what its steps read. What they give goes where `preprocess` says.

    `allowed`: packages whose functions steps may call.
    """

    kind: Literal["steps"]
    folder: File
    allowed: tuple[str, ...] = ()


class Lower(_Model):
    """The lower half of the model in this process: a folder of pass `cut`. Its activations go where `cut` says."""

    kind: Literal["lower"]
    folder: File
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class _Beyond(Part):
    model: str
    tls: bool = False
    authority: File | None = None
    token: File | None = None
    """File with the token that is shown to it."""
    serverName: str = ""  # noqa: N815
    """Whom its certificate has to name; empty: the address."""


class LargerBackends(_Beyond):
    """A larger model at addresses."""

    kind: Literal["backends"]
    backends: Weights


class LargerSlices(_Beyond):
    """A larger model of the cluster."""

    kind: Literal["slices"]
    namespace: str
    service: str
    port: Annotated[int, Field(ge=1, le=65535)] = 8001


class LargerMqtt(Part):
    """A larger model behind a broker (docs/mqtt.md). `device`: this gateway's name there; the files: `edge.mqtt.broker`."""

    kind: Literal["mqtt"]
    model: str
    broker: str
    device: str
    requests: str = "stillhouse/infer"
    answers: str = "stillhouse/answers"
    authority: File | None = None
    certificate: File | None = None
    key: File | None = None
    username: File | None = None
    password: File | None = None


Larger = Annotated[LargerBackends | LargerSlices | LargerMqtt, Field(discriminator="kind")]
