"""What is measured of the answers: agreement, drift, prices, spans."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stillhouse.edge.sections.base import File, Part, Share

__all__ = ["Agreement", "Collect", "Prices", "Telemetry"]


class Collect(Part):
    """Where requests are kept as training data, and bytes of all of them."""

    folder: File
    maxSize: Annotated[int, Field(ge=1)]  # noqa: N815


class Agreement(Part):
    """The agreement watch; shares."""

    sample: Share = 0.01
    minAgreement: Share | None = None  # noqa: N815
    maxDrift: Annotated[float, Field(ge=0)] = 0.2  # noqa: N815
    collect: Collect | None = None


class Prices(Part):
    """Of a CPU-hour here and of an answer there."""

    currency: str = "EUR"
    cpuHour: Annotated[float, Field(ge=0)] | None = None  # noqa: N815
    cloudCall: Annotated[float, Field(ge=0)] | None = None  # noqa: N815


class Telemetry(Part):
    """Where spans go, and the share of requests without a parent that have some."""

    endpoint: str
    sample: Share = 0.1
