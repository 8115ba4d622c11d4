"""The gateway's configuration file, read and checked. What writes it: `planning.gateway`; its sections: `edge.sections`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from stillhouse.edge.sections.base import File, Part
from stillhouse.edge.sections.beyond import Away, Cascade, Cut, Pipeline, Preprocess
from stillhouse.edge.sections.guarding import Clients, Guard
from stillhouse.edge.sections.places import Backends, Engine, Lower, Slices, Steps
from stillhouse.edge.sections.watching import Agreement, Prices, Telemetry
from stillhouse.errors import SpecError, UsageError

__all__ = ["Config", "Listen", "Tls", "read"]


class Listen(Part):
    """HOST:PORT of each door; None: closed."""

    grpc: str
    rest: str | None = None
    metrics: str | None = None


class Tls(Part):
    """Files of the front's certificate."""

    certificate: File
    key: File
    clientAuthority: File | None = None  # noqa: N815 - the file's names


class Config(Part):
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
