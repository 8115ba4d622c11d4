"""What `still push` and `still rollback` say where what they need is not there: with the command that mends it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stillhouse.clients.kube.fake import FakeKube
from stillhouse.clients.kube.interface import refusal
from stillhouse.clients.kube.kinds import CLAIM, MODEL, NAMESPACE, REVISION, Kind
from stillhouse.entrypoints.remote.cluster import inspect, pin
from stillhouse.entrypoints.remote.place import Place
from stillhouse.entrypoints.remote.there import check_there
from stillhouse.errors import Problem, UsageError

PLACE = Place("search", "prod")


def told(kube: FakeKube, to: str = "pvc://models/teachers") -> Problem:
    with pytest.raises(UsageError) as refused:
        asyncio.run(check_there(kube, PLACE, to))
    return refused.value.problem


def make(kube: FakeKube, kind: Kind, namespace: str, name: str, **parts: Any) -> None:
    asyncio.run(kube.create(kind, namespace, {"kind": kind.name, "metadata": {"name": name}, **parts}))


def test_a_namespace_that_is_not_there() -> None:
    problem = told(FakeKube(), "s3://bucket")
    assert (problem.field, problem.found) == ("--namespace", "search")
    assert problem.fix == "kubectl create namespace search --context prod"


def test_a_claim_that_is_not_there() -> None:
    kube = FakeKube()
    make(kube, NAMESPACE, "", "search")
    asyncio.run(check_there(kube, PLACE, "s3://bucket"))
    problem = told(kube)
    assert (problem.field, problem.found) == ("--to", "search/models")
    assert problem.allowed == "one of kubectl get pvc -n search --context prod"
    _, _, command = problem.fix.partition("echo ")
    body, _, create = command.partition(" | ")
    assert json.loads(body.strip("'"))["metadata"]["name"] == "models"
    assert create == "kubectl create -f - -n search --context prod"
    make(kube, CLAIM, "search", "models")
    asyncio.run(check_there(kube, PLACE, "pvc://models/teachers"))


def test_what_may_not_be_looked_at_counts_as_there() -> None:
    kube = FakeKube()

    def refuse(verb: str, kind: Kind, name: str) -> None:
        raise refusal(403, "Forbidden", f"{verb} {name}", "GET")

    kube.before = refuse
    asyncio.run(check_there(kube, PLACE, "pvc://models"))


@pytest.mark.parametrize(
    ("outcomes", "found"), [([], "m: 0 accepted, 0 failed"), (["Accepted", "Failed"], "m: 1 accepted, 1 failed")]
)
def test_nothing_to_go_back_to(outcomes: list[str], found: str) -> None:
    kube = FakeKube()
    digests = {name: "sha256:" + str(number) * 64 for number, name in enumerate(outcomes)}
    make(kube, MODEL, "search", "m", spec={}, status={"revision": {"digest": digests.get("Accepted", "")}})
    for outcome, digest in digests.items():
        body = {"kind": REVISION.name, "metadata": {"name": outcome.lower(), "labels": {"stillhouse.io/model": "m"}}}
        asyncio.run(kube.create(REVISION, "search", {**body, "spec": {"outcome": outcome, "digest": digest}}))
    with pytest.raises(UsageError) as refused:
        asyncio.run(pin(kube, PLACE, "m", ""))
    assert refused.value.problem.found == found
    assert "still status m -n search --context prod" in refused.value.problem.fix


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(UsageError) as refused:
        asyncio.run(inspect(FakeKube(), PLACE, "m"))
    assert refused.value.problem.fix == "kubectl get dm -n search --context prod"
