"""Exports by converters that want a torch of their own: these tests run in the environment that `make test-exports` makes."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from tests.support.tiers import require

NEEDED = ("litert_torch", "ai_edge_litert", "coremltools")


@pytest.fixture(scope="session", autouse=True)
def _tier() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    require(
        "exports", f"{', '.join(missing)} missing here; `make test-exports` installs them apart and runs it" if missing else None
    )
