"""What a command line says to a gateway of this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stillhouse.entrypoints.edge.brokers import AtBroker

__all__ = ["Given"]

GRPC, REST, METRICS = 8101, 8100, 8102
"""Where a gateway listens if nothing is said; Triton's servers take ports from 8001 up."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says: addresses, files of certificates, tokens and keys; of steps what they read and may call."""

    cloud: str | None = None
    cloud_authority: Path | None = None
    at_broker: AtBroker = field(default_factory=AtBroker)
    middle: str | None = None
    host: str = "127.0.0.1"
    port: int = GRPC
    rest_port: int = REST
    metrics_port: int = METRICS
    certificate: Path | None = None
    key: Path | None = None
    client_authority: Path | None = None
    tokens: Path | None = None
    audit_key: Path | None = None
    threads: int = 1
    files: Path | None = None
    allowed: tuple[str, ...] = ()
