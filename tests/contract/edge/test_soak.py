"""`make soak-gateway` in short: all that can roll rolls once, and no request of the documented client fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bench.soak_gateway import Pace, soak

go = pytest.mark.skipif(shutil.which("go") is None, reason="the load generator needs Go")


@go
def test_nothing_fails_while_backends_cloud_and_gateways_roll(tmp_path: Path) -> None:
    outcome = soak(2000, Pace(rate=250, chunk=250, away_s=0.2, settle_s=1.2), tmp_path, lambda _: None)

    assert outcome.failed == 0, outcome.first_error
    assert outcome.requests >= 2000
    assert outcome.rolled["backend_replaced"] >= 3
    assert outcome.rolled["gateway_restarted"] >= 2
    assert outcome.rolled.keys() >= {"cloud_killed", "pool_scaled", "cloud_killed_while_scaled"}
    # The cloud was there and answered, was away and was done without, and the sure half never needed it.
    assert outcome.figures["cascade_rows cloud"] > 0
    assert outcome.figures["cascade_away answer"] > 0
    assert outcome.figures["cascade_rows edge"] > outcome.requests / 3
