"""The metrics API's documents, who is let in, and which pods are asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from multidict import CIMultiDict

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.kinds import MODEL, POD
from stillhouse.errors import EnvironmentProblem, UsageError
from stillhouse.resources.metrics_api import WANTED
from stillhouse.scaling.access import Access
from stillhouse.scaling.external import METRICS, Value, figures, items, quantity, resources, selects
from stillhouse.scaling.frontproxy import FrontProxy, Unauthenticated, User
from stillhouse.scaling.signals import Signals
from stillhouse.scaling.targets import Targets, instances_of
from stillhouse.scaling.wanted import Aim, Room


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (2.0, "2"), (1.25, "1250m"), (0.0001, "1m"), (1.0000000001, "1"), (12345.6789, "12345679m")]
)
def test_a_quantity_is_rounded_up(value: float, text: str) -> None:
    assert quantity(value) == text


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("", True),
        ("stillhouse.io/model=m", True),
        ("stillhouse.io/model==m", True),
        ("stillhouse.io/model=n", False),
        ("stillhouse.io/model!=n", True),
        ("stillhouse.io/model in (n,m)", True),
        ("stillhouse.io/model in (n), stillhouse.io/model", False),
        ("stillhouse.io/model notin (n,o),stillhouse.io/model=m", True),
        ("!stillhouse.io/model", False),
        ("other", False),
        ("other!=x", True),
    ],
)
def test_a_label_selector_is_that_of_kubernetes(selector: str, chosen: bool) -> None:
    assert selects(selector)({"stillhouse.io/model": "m"}) is chosen


@pytest.mark.parametrize("selector", ["a=b=c", "a in b", "=x", "a=b;c", "a" * 5000])
def test_a_selector_that_cannot_be_read_is_refused(selector: str) -> None:
    with pytest.raises(UsageError):
        selects(selector)


def test_values_are_of_one_namespace_and_of_the_models_that_have_one() -> None:
    known = Signals(1, 3.0, 0.02, 70.0, 0.7, 0.7, 0.01)
    unknown = Signals(1, 3.0, 0.0, 0.0, 0.0, 0.0, None)
    values = figures(
        {("a", "m"): (known, Room(1.0)), ("b", "m"): (known, Room(2.0)), ("a", "new"): (unknown, Room(1.0))}, Aim(0.7, 5.0)
    )
    assert values.keys() == METRICS.keys()
    found = items(values[WANTED], WANTED, "a", "", "2026-01-01T00:00:00Z")
    assert found == [
        {
            "metricName": WANTED,
            "metricLabels": {"stillhouse.io/model": "m"},
            "timestamp": "2026-01-01T00:00:00Z",
            "value": "1009m",
        }
    ]
    assert {(each.namespace, each.model) for each in values["stillhouse_pending_requests"]} == {
        ("a", "m"), ("b", "m"), ("a", "new"),
    }  # fmt: skip
    assert items([Value("a", "m", 1.0)], WANTED, "a", "stillhouse.io/model=n", "") == []


def test_nothing_that_could_be_deleted_is_served() -> None:
    assert {tuple(each["verbs"]) for each in resources()["resources"]} == {("get",)}


CONFIG = {
    "data": {
        "requestheader-client-ca-file": "PEM",
        "requestheader-allowed-names": '["front-proxy"]',
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    }
}


def certificate(name: str) -> dict[str, Any]:
    return {"subject": ((("commonName", name),),)}


def test_whom_the_api_server_asks_for() -> None:
    headers = CIMultiDict(
        [
            ("x-remote-user", "jane"),
            ("X-Remote-Group", "a"),
            ("X-Remote-Group", "b"),
            ("X-Remote-Extra-Scopes", "s"),
            ("Host", "h"),
        ]
    )
    user = FrontProxy.of(CONFIG).identify(certificate("front-proxy"), headers)
    assert user == User("jane", ("a", "b"), extra={"scopes": ("s",)})


@pytest.mark.parametrize(
    ("shown", "headers"),
    [
        (None, {"X-Remote-User": "system:masters"}),
        ({}, {"X-Remote-User": "system:masters"}),
        (certificate("somebody"), {"X-Remote-User": "jane"}),
        (certificate("front-proxy"), {}),
        (certificate("front-proxy"), {"X-Remote-Group": "system:masters"}),
    ],
)
def test_nobody_else_may_say_for_whom_he_asks(shown: dict[str, Any] | None, headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        FrontProxy.of(CONFIG).identify(shown, CIMultiDict(headers))


@pytest.mark.parametrize("data", [{}, {"requestheader-client-ca-file": " "}, {"client-ca-file": "PEM"}])
def test_an_api_server_that_forwards_nothing_is_told(data: dict[str, str]) -> None:
    with pytest.raises(EnvironmentProblem):
        FrontProxy.of({"data": data})


class Reviews(FakeKube):
    """Answers as an API server does; `asked` are the questions."""

    def __init__(self, *, allowed: bool) -> None:
        super().__init__()
        self.allowed, self.asked = allowed, []  # type: ignore[var-annotated]

    async def create(self, kind: Any, namespace: str, body: Any) -> Any:
        self.asked.append(body["spec"])
        return {**body, "status": {"allowed": self.allowed}}


@pytest.mark.parametrize("allowed", [True, False])
def test_a_right_is_asked_for_once_and_again_after_seconds(allowed: bool) -> None:
    now = [0.0]
    kube = Reviews(allowed=allowed)
    access = Access(kube, clock=lambda: now[0])
    jane = User("jane", ("a",), "7", {"scopes": ("s",)})

    async def ask(user: User, namespace: str = "x") -> bool:
        return await access.allowed(user, namespace, WANTED)

    assert asyncio.run(ask(jane)) is allowed
    assert asyncio.run(ask(jane)) is allowed
    assert len(kube.asked) == 1
    spec = kube.asked[0]
    assert spec["resourceAttributes"] == {
        "namespace": "x", "verb": "list", "group": "external.metrics.k8s.io", "version": "v1beta1", "resource": WANTED,
    }  # fmt: skip
    assert (spec["user"], spec["groups"], spec["uid"], spec["extra"]) == ("jane", ["a"], "7", {"scopes": ["s"]})
    asyncio.run(ask(User("jane")))
    asyncio.run(ask(jane, "y"))
    assert len(kube.asked) == 3
    now[0] = 11.0
    asyncio.run(ask(jane))
    assert len(kube.asked) == 4


def pod(name: str = "p", *, ready: bool = True, serve: Any = None, **meta: Any) -> dict[str, Any]:
    env = [] if serve is None else [{"name": "STILLHOUSE_SERVE", "value": serve if isinstance(serve, str) else json.dumps(serve)}]
    return {
        "kind": "Pod",
        "metadata": {"namespace": "a", "name": name, "uid": name, "labels": {"stillhouse.io/model": "m"}, **meta},
        "spec": {"containers": [{"name": "triton", "env": env}]},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def dm(**scale: Any) -> dict[str, Any]:
    return {"kind": "DistilledModel", "metadata": {"namespace": "a", "name": "m"}, "spec": {"scale": scale}}


def test_the_pods_of_a_model_that_may_scale_are_asked() -> None:
    targets = Targets()
    targets.see("", pod())
    assert targets.by_model() == {}
    targets.see("", dm(minReplicas=1, maxReplicas=3))
    assert [each.address for each in targets.by_model()["a", "m"]] == ["10.0.0.1"]
    for gone in (pod(ready=False), pod(deletionTimestamp="2026-01-01T00:00:00Z"), {**pod(), "status": {}}):
        targets.see("MODIFIED", gone)
        assert targets.by_model() == {("a", "m"): []}
        targets.see("MODIFIED", pod())
        assert len(targets.by_model()["a", "m"]) == 1
    targets.see("DELETED", pod())
    assert targets.by_model() == {("a", "m"): []}
    targets.replace(POD, [pod("q"), pod("r")], 1)
    targets.replace(POD, [pod("r")], 2)
    assert [each.uid for each in targets.by_model()["a", "m"]] == ["r"]
    targets.replace(MODEL, [], 3)
    assert targets.by_model() == {}


@pytest.mark.parametrize(
    "scale", [{}, {"mode": "cpu", "maxReplicas": 3}, {"mode": "external", "maxReplicas": 3}, {"minReplicas": 3, "maxReplicas": 3}]
)
def test_a_model_that_does_not_scale_is_not_asked(scale: dict[str, Any]) -> None:
    targets = Targets()
    targets.see("", dm(**scale))
    assert targets.by_model() == {}


@pytest.mark.parametrize(
    ("serve", "instances"),
    [
        (None, 1), ({"cpus": 2.0}, 2), ({"cpus": 4.0, "threads": 2}, 2), ({"cpus": 1.0, "instances": 3}, 3),
        ({"cpus": 8, "gpus": 2}, 2), ({"cpus": 1.0, "gpus": 2, "instances": 2}, 4), ({"cpus": 8}, 6),
        ("no JSON", 1), ("[]", 1),
    ],
)  # fmt: skip
def test_how_many_batches_a_pod_runs_at_a_time(serve: Any, instances: float) -> None:
    assert instances_of(pod(serve=serve)) == instances
