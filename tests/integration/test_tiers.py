"""A tier that cannot run is skipped with its reason, and fails where `CI=true` is set."""

from __future__ import annotations

import pytest
from tests.support.tiers import require


def test_nothing_missing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    require("integration", None)


def test_a_users_machine_skips_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match="tier 'integration' cannot run: no `go` on PATH"):
        require("integration", "no `go` on PATH")


def test_continuous_integration_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="no `go` on PATH"):
        require("integration", "no `go` on PATH")
