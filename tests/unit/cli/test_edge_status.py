"""What `still edge status` prints of a gateway's report."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.edge.economics import Prices, Usage, economics
from stillhouse.entrypoints.edge.reporting import lines


def report(threshold: float | None, breakers: dict[str, Any], requests: int = 100) -> dict[str, Any]:
    usage = Usage()
    for _ in range(requests):
        usage.count(8, 2, called=True)
    return {
        "model": {"name": "m", "variant": "int8", "digest": "sha256:" + "1" * 64, "threshold": threshold},
        "listen": {"grpc": "127.0.0.1:8101"},
        "pid": 7,
        "economics": economics(usage, 0.5, Prices(edge_cpu_hour=1.0, cloud_call=1.0)).to_json(),
        "cloud": {"policy": "answer", "breakers": breakers, "queue": None},
        "agreement": None,
    }


BREAKER = {"cloud": {"state": "closed", "retryInSeconds": 0.0, "opened": 0, "refused": 0}}


@pytest.mark.parametrize(
    ("threshold", "breakers", "says"),
    [(0.75, BREAKER, "threshold    0.7500"), (None, BREAKER, "none: everything escalates"), (None, {}, "")],
)
def test_a_threshold_is_told_where_there_is_a_cascade(threshold: float | None, breakers: dict[str, Any], says: str) -> None:
    text = "\n".join(lines(report(threshold, breakers)))

    assert "m  111111111111 (int8) at 127.0.0.1:8101, process 7" in text
    assert ("escalated    200 (25.0%)" in text) == bool(breakers)
    assert ("avoided" in text) == ("saved" in text) == bool(breakers), "without a larger model nothing is saved"
    assert (says in text) if says else ("threshold" not in text)
    assert ("when away" in text) == bool(breakers)


def test_what_is_wrong_with_the_larger_model_is_told_as_the_gateway_words_it() -> None:
    told = report(0.75, BREAKER)
    told["cloud"]["larger"] = {"model": "large", "state": "missing", "has": [], "words": "large: nobody knows it"}

    assert "  larger model large: nobody knows it" in list(lines(told))
    told["cloud"]["larger"]["words"] = ""
    assert not any("larger model" in line for line in lines(told))


def test_of_a_handful_of_requests_no_share_is_told() -> None:
    text = "\n".join(lines(report(0.75, BREAKER, requests=8)))

    assert "answers      64 to 8 requests" in text
    assert "cloud calls  8\n" in text
    assert "too few requests" in text
    assert "%" not in text and "saved" not in text
    assert "too few" not in "\n".join(lines(report(0.75, BREAKER, requests=0)))
