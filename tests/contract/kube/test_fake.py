"""The API server in memory obeys the contract that a real one does (tests/integration/test_kube_api.py)."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.kube_contract import CASES, Case

from stillhouse.clients.kube.fake import FakeKube


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_fake(case: Case) -> None:
    asyncio.run(case(FakeKube(), "default"))  # type: ignore[arg-type]
