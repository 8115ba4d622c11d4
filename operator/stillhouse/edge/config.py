"""The gateway's configuration file, read and checked. What writes it: `planning.gateway`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stillhouse.errors import SpecError, UsageError

__all__ = [
    "Audit",
    "Backends",
    "Cascade",
    "Collect",
    "Config",
    "Cut",
    "Engine",
    "Guard",
    "Larger",
    "Listen",
    "Lower",
    "Pattern",
    "Pipeline",
    "Preprocess",
    "Slices",
    "Step",
    "Steps",
    "Tls",
    "read",
]

VERSION = 1
Share = Annotated[float, Field(ge=0, le=1)]
Address = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}$")]
"""HOST:PORT, [IPV6]:PORT."""
Weights = Annotated[dict[Address, Annotated[float, Field(ge=0, le=1000)]], Field(min_length=1)]


class _Part(BaseModel):
    """A part of the file: nothing unknown, nothing infinite, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Listen(_Part):
    """HOST:PORT of each door; None: closed."""

    grpc: str
    rest: str | None = None
    metrics: str | None = None


class Tls(_Part):
    """Files of the front's certificate."""

    certificate: Path
    key: Path
    clientAuthority: Path | None = None  # noqa: N815 - the file's names


class _Model(_Part):
    digest: str = ""
    variant: str = ""


class Engine(_Model):
    """The model in this process: a folder with `model.onnx`, `signature.json`, `tokenizer.json`."""

    kind: Literal["engine"]
    folder: Path
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
    folder: Path
    allowed: tuple[str, ...] = ()


class Lower(_Model):
    """The lower half of the model in this process: a folder of pass `cut`. Its activations go where `cut` says."""

    kind: Literal["lower"]
    folder: Path
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class _Beyond(_Part):
    model: str
    tls: bool = False
    authority: Path | None = None
    token: Path | None = None
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


class LargerMqtt(_Part):
    """A larger model behind a broker (docs/mqtt.md). `device`: this gateway's name there; the files: `edge.mqtt.broker`."""

    kind: Literal["mqtt"]
    model: str
    broker: str
    device: str
    requests: str = "stillhouse/infer"
    answers: str = "stillhouse/answers"
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: Path | None = None
    password: Path | None = None


Larger = Annotated[LargerBackends | LargerSlices | LargerMqtt, Field(discriminator="kind")]


class Cascade(_Part):
    """Folder of the cascade's artifact, and who is asked beyond it: `middle`, where the artifact has one, and `larger`."""

    folder: Path
    outliers: Literal["escalate", "flag", "refuse"] = "escalate"
    middle: Larger | None = None
    larger: Larger


class Queue(_Part):
    """The queue on disk; bytes and seconds."""

    folder: Path
    maxSize: Annotated[int, Field(ge=1)]  # noqa: N815
    maxAge: Annotated[float, Field(gt=0)]  # noqa: N815


class Away(_Part):
    """What happens while the larger model is not there."""

    policy: Literal["answer", "queue", "fail"] = "answer"
    hedge: bool = False
    queue: Queue | None = None


class Clients(_Part):
    """Who may ask: a folder of tokens; inferences a second, at once, under way."""

    tokens: Path | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None


class Pattern(_Part):
    """What is refused or masked in texts."""

    name: str
    regex: str | None = None
    named: str | None = None
    action: Literal["refuse", "mask"] = "refuse"


class Audit(_Part):
    """The audit log; seconds and bytes."""

    folder: Path
    mode: Literal["required", "best-effort"] = "best-effort"
    key: Path | None = None
    raw: bool = False
    keep: Annotated[float, Field(gt=0)] = 90 * 86400.0
    maxSize: Annotated[int, Field(ge=1)] = 1 << 30  # noqa: N815


class Guard(_Part):
    """What requests may hold."""

    maxRows: Annotated[int, Field(ge=1)] = 1024  # noqa: N815
    maxTextLength: Annotated[int, Field(ge=1)] = 100_000  # noqa: N815
    maxMessageSize: Annotated[int, Field(ge=1024)] = 64 << 20  # noqa: N815
    patterns: tuple[Pattern, ...] = ()
    audit: Audit | None = None


class Collect(_Part):
    """Where requests are kept as training data, and bytes of all of them."""

    folder: Path
    maxSize: Annotated[int, Field(ge=1)]  # noqa: N815


class Agreement(_Part):
    """The agreement watch; shares."""

    sample: Share = 0.01
    minAgreement: Share | None = None  # noqa: N815
    maxDrift: Annotated[float, Field(ge=0)] = 0.2  # noqa: N815
    collect: Collect | None = None


class Prices(_Part):
    """Of a CPU-hour here and of an answer there."""

    currency: str = "EUR"
    cpuHour: Annotated[float, Field(ge=0)] | None = None  # noqa: N815
    cloudCall: Annotated[float, Field(ge=0)] | None = None  # noqa: N815


class Step(_Part):
    """A step of a pipeline: where its inputs come from, its outputs' names in the answer, and who answers for its model."""

    name: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    at: Larger


class Pipeline(_Part):
    """Models that go on from what `edge` says: what that is given, what it says, and the steps (`edge.join`)."""

    takes: str
    says: tuple[str, ...]
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]


class Preprocess(_Part):
    """Who takes what the steps of `edge` give, and how it travels."""

    encoding: Literal["none", "fp16", "int8", "int8-rows", "zstd", "fp16+zstd", "int8+zstd", "int8-rows+zstd"] = "none"
    larger: Larger


class Cut(_Part):
    """Who has the upper half."""

    upper: Larger


class Telemetry(_Part):
    """Where spans go, and the share of requests without a parent that have some."""

    endpoint: str
    sample: Share = 0.1


class Config(_Part):
    """The file."""

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$")]
    listen: Listen
    edge: Annotated[Engine | Backends | Slices | Steps | Lower, Field(discriminator="kind")]
    tls: Tls | None = None
    cascade: Cascade | None = None
    pipeline: Pipeline | None = None
    preprocess: Preprocess | None = None
    cut: Cut | None = None
    away: Away = Away()
    clients: Clients = Clients()
    guard: Guard | None = None
    agreement: Agreement | None = None
    prices: Prices | None = None
    telemetry: Telemetry | None = None
    maxInFlight: Annotated[int, Field(ge=0)] = 512  # noqa: N815

    @model_validator(mode="after")
    def _steps_have_a_model(self) -> Config:
        if (self.preprocess is not None) != isinstance(self.edge, Steps):
            raise ValueError("edge of kind steps and preprocess belong together")
        if self.preprocess is not None and (self.cascade is not None or self.pipeline is not None):
            raise ValueError("preprocess excludes cascade and pipeline")
        if (self.cut is not None) != isinstance(self.edge, Lower):
            raise ValueError("edge of kind lower and cut belong together")
        if self.cut is not None and (self.cascade is not None or self.pipeline is not None):
            raise ValueError("cut excludes cascade and pipeline")
        return self


def read(file: Path) -> Config:
    """Read a configuration.

    Raises:
        UsageError: it is not there or not readable. SpecError: a field is wrong.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError("the configuration cannot be read", field="--config", found=f"{file}: {error.strerror}") from error
    try:
        return Config.model_validate_json(content)
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        raise SpecError(
            f"the gateway's configuration is wrong: {first['msg']}",
            field=f"{file.name}: {'.'.join(str(each) for each in first['loc'])}",
            found=str(first.get("input"))[:200],
            fix="it is written by `still edge` and by the operator; write it anew with this version",
        ) from error
