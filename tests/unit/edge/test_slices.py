"""Which pods of a Service take requests, from its slices as Kubernetes writes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.edge.slices import Endpoints

GRPC = [{"name": "grpc", "port": 8001, "protocol": "TCP"}]


def endpoint(address: str, uid: str = "", **conditions: bool) -> dict[str, Any]:
    target = {"targetRef": {"kind": "Pod", "uid": uid}} if uid else {}
    return {"addresses": [address], "conditions": conditions, **target}


def part(name: str, *endpoints: dict[str, Any], family: str = "IPv4", ports: Any = GRPC) -> dict[str, Any]:
    return {"metadata": {"name": name}, "addressType": family, "ports": ports, "endpoints": list(endpoints)}


def addresses(*slices: dict[str, Any], port: int = 8001) -> dict[str, float]:
    found = Endpoints(port)
    found.replace(slices)
    return found.addresses()


def test_who_is_ready_and_stays_takes_requests_all_alike() -> None:
    ready = {"ready": True, "serving": True, "terminating": False}
    going = {"ready": False, "serving": True, "terminating": True}
    one = part(
        "a", endpoint("10.0.0.1", **ready), endpoint("10.0.0.2", **going), endpoint("10.0.0.3", ready=False, serving=False)
    )
    assert addresses(one, part("b", endpoint("10.0.0.4", **ready))) == {"10.0.0.1:8001": 1.0, "10.0.0.4:8001": 1.0}


def test_of_a_service_that_publishes_all_its_pods_those_that_serve_are_asked() -> None:
    """There `ready` is true of every pod; the Service of a model's pods is one, for their metrics."""
    starting = {"ready": True, "serving": False, "terminating": False}
    assert addresses(part("a", endpoint("10.0.0.1", **starting), endpoint("10.0.0.2", ready=True, serving=True))) == {
        "10.0.0.2:8001": 1.0
    }


@pytest.mark.parametrize(
    ("conditions", "asked"),
    [({}, True), ({"ready": True}, True), ({"ready": False}, False), ({"serving": True}, True), ({"serving": False}, False)],
)
def test_what_is_left_out_means_what_kubernetes_says_it_means(conditions: dict[str, bool], asked: bool) -> None:
    assert bool(addresses(part("a", endpoint("10.0.0.1", **conditions)))) == asked


def test_where_nobody_stays_who_is_on_its_way_out_is_asked_while_it_serves() -> None:
    going = endpoint("10.0.0.1", ready=False, serving=True, terminating=True)
    ended = endpoint("10.0.0.2", ready=False, serving=False, terminating=True)
    assert addresses(part("a", going, ended)) == {"10.0.0.1:8001": 1.0}
    assert addresses(part("a", going, endpoint("10.0.0.3", ready=True))) == {"10.0.0.3:8001": 1.0}
    assert addresses(part("a", ended)) == {}


def test_a_pod_with_two_addresses_is_asked_once() -> None:
    six = part("six", endpoint("fd00::1", "p", ready=True), endpoint("fd00::2", "q", ready=True), family="IPv6")
    four = part("four", endpoint("10.0.0.1", "p", ready=True))
    assert addresses(six, four) == addresses(four, six) == {"10.0.0.1:8001": 1.0, "[fd00::2]:8001": 1.0}
    assert addresses(part("name", endpoint("pod.example", ready=True), family="FQDN")) == {}


def test_the_port_is_that_of_grpc_wherever_it_is() -> None:
    both = [{"name": "rest", "port": 8000}, {"name": "grpc", "port": 9001}]
    assert list(addresses(part("a", endpoint("10.0.0.1"), ports=both))) == ["10.0.0.1:9001"]
    plain = [{"name": "", "port": 8001}]
    assert list(addresses(part("a", endpoint("10.0.0.1"), ports=plain))) == ["10.0.0.1:8001"]
    other = [{"name": "rest", "port": 8000}]
    assert addresses(part("a", endpoint("10.0.0.1"), ports=other)) == {}


CHANGES = st.lists(
    st.tuples(st.sampled_from(["ADDED", "MODIFIED", "DELETED"]), st.sampled_from("abc"), st.integers(0, 4)), max_size=20
)


@given(CHANGES)
def test_told_one_by_one_or_all_at_once_it_is_the_same(changes: list[tuple[str, str, int]]) -> None:
    told = Endpoints(8001)
    there: dict[str, dict[str, Any]] = {}
    for event, name, count in changes:
        body = part(name, *(endpoint(f"10.0.{ord(name)}.{number}") for number in range(count)))
        told.see(event, body)
        if event == "DELETED":
            there.pop(name, None)
        else:
            there[name] = body
    assert told.addresses() == addresses(*there.values())
