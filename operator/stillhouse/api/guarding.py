"""`spec.edge`, the part that keeps out: who may ask, how much, what is refused, what is written down."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.scalars import Duration, Quantity

__all__ = ["Audit", "Clients", "Guard", "Pattern", "SecretName", "Tls"]

SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]

_ONE_KIND = CelRule("has(self.regex) != has(self.named)", "write one of regex and named", "regex")
_BURST = CelRule("!has(self.burst) || has(self.rate)", "burst belongs to rate", "burst")


class Clients(ApiModel):
    """Who may ask, and how much each."""

    tokens: SecretName | None = None
    """Secret with a key for each client: the client's name, and as value its token (16 characters at least). Sent as
    `authorization: Bearer TOKEN` or `x-api-key`. Left out: everybody, told apart by certificate or address."""
    rate: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Inferences a second of one client."""
    burst: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Of these, how many at once; as many as `rate` when left out."""
    concurrency: Annotated[int | None, Field(ge=1, le=100_000)] = None
    """Inferences of one client that are under way."""

    cel_rules = (_BURST,)

    @model_validator(mode="after")
    def _burst_of_a_rate(self) -> Clients:
        if self.burst is not None and self.rate is None:
            raise _BURST.broken(fix="write rate, or remove burst")
        return self


class Tls(ApiModel):
    """TLS at the front. Certificates are read anew when they change."""

    secret: SecretName
    """Secret of type `kubernetes.io/tls`: `tls.crt` and `tls.key`."""
    client_authority: SecretName | None = None
    """Secret with `ca.crt`: clients must show a certificate of this authority."""


class Pattern(ApiModel):
    """A pattern that is looked for in texts, in time linear in the text (RE2)."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
    """What it is called in refusals, masks and metrics."""
    regex: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """A regular expression of RE2."""
    named: Literal["email", "card", "iban", "phone"] | None = None
    """One that is ready, with check digits where there are any."""
    action: Literal["refuse", "mask"] = "refuse"
    """`mask` puts `[name]` in its place before any model sees the text."""

    cel_rules = (_ONE_KIND,)

    @model_validator(mode="after")
    def _one_kind(self) -> Pattern:
        if (self.regex is None) == (self.named is None):
            raise _ONE_KIND.broken()
        return self


class Audit(ApiModel):
    """A log of every inference that only grows: each record holds the hash of the one before it (`still audit verify`)."""

    mode: Literal["required", "best-effort"] = "best-effort"
    """`required`: no answer without a record; where none can be written, requests are refused with UNAVAILABLE."""
    key: SecretName | None = None
    """Secret with `key` (32 bytes at least), for a MAC on each record: who has no key cannot forge a chain."""
    raw: bool = False
    """Whether inputs are kept as they are (16 KiB of each); else their digests only."""
    keep: Duration = "2160h"
    """How long files are kept."""
    max_size: Quantity = "1Gi"
    """How much disk all files may take; the oldest go first."""


class Guard(ApiModel):
    """What requests may hold; they are checked against the model's own inputs."""

    max_rows: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Rows of a request."""
    max_text_length: Annotated[int, Field(ge=1, le=100_000_000)] = 100_000
    """Characters of a text."""
    max_message_size: Quantity = "64Mi"
    """Bytes of a request or an answer, also once inflated."""
    patterns: Annotated[tuple[Pattern, ...], Field(max_length=32)] = ()
    """What is refused or masked in texts, in this order."""
    audit: Audit | None = None
    """The audit log; left out: none."""
