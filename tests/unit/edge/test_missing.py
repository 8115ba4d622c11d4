"""What a file asks for by Secrets of a cluster, where `still edge` has nothing in their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.api.edge import Edge
from stillhouse.entrypoints.edge.given import Given
from stillhouse.entrypoints.edge.remarks import missing
from stillhouse.errors import UsageError

ASKS = Edge.model_validate(
    {"clients": {"tokens": "clients"}, "tls": {"secret": "front"}, "guard": {"audit": {"key": "audit-key"}}}
)
FILE = Path("file")


def test_each_is_named_with_its_option() -> None:
    tokens, tls, key = missing(ASKS, Given())
    assert "spec.edge.clients.tokens" in tokens and "--tokens" in tokens
    assert "spec.edge.tls" in tls and "--tls-certificate" in tls
    assert "spec.edge.guard.audit.key" in key and "--audit-key" in key


def test_nothing_is_said_where_it_was_given_or_not_asked_for() -> None:
    assert missing(ASKS, Given(host="0.0.0.0", tokens=FILE, certificate=FILE, key=FILE, audit_key=FILE)) == ()
    assert missing(Edge(), Given(host="0.0.0.0")) == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "edge.example"])
def test_without_its_tokens_a_gateway_is_not_opened_to_others(host: str) -> None:
    with pytest.raises(UsageError, match="the file asks for tokens") as refused:
        missing(ASKS, Given(host=host))
    assert refused.value.problem.field == "--tokens"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_this_machine_it_is_only_told(host: str) -> None:
    assert len(missing(ASKS, Given(host=host))) == 3
