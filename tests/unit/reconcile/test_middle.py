"""A model between the small and the larger one of a cascade: what it is built with, and what follows where that changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.cluster import DIGEST, NAMESPACE, model, record
from tests.support.fronted import CASCADE, GATEWAY, WITH_CASCADE, Fronted

from stillhouse.api.load import parse
from stillhouse.api.revision import ModelRevision
from stillhouse.clients.kube.kinds import REVISION, by_name
from stillhouse.planning.build import request_hash
from stillhouse.reconcile.cache import Cache
from stillhouse.resources import labels, names

NEAR, NEWER = "sha256:" + "e" * 64, "sha256:" + "f" * 64
CLASSES = {"uri": "models:minilm", "task": "text-classification"}
THREE = {"cascade": {**WITH_CASCADE["cascade"], "middle": {"model": "near"}}}


class Three(Fronted):
    """Model `m` has `near` between."""

    digest = NEAR

    def request(self, body: dict[str, Any]) -> str:
        bound = {**self.settings.sources, "still:near": self.digest}
        return request_hash(parse({part: value for part, value in body.items() if part != "status"}), bound)

    def near(self, digest: str = NEAR, batch: int = 32) -> None:
        """Let a revision of the model between be built."""
        self.apply(model("near", source=CLASSES, serve={"batching": {"maxBatchSize": batch}}))
        self.build(digest, "near")
        self.digest = digest

    def solve(self, cascade: str = CASCADE) -> None:
        """Let `m` be built with the model between that there is."""
        self.settle()
        self.end("resolve", {"next": "gate"})
        self.settle()
        told = {**record(), "cascade": cascade, "middle": {"model": "near", "digest": self.digest}}
        self.end("gate", {"next": None, "record": told})
        self.settle()

    def service(self) -> str:
        """Return which artifact's pods the gateway asks between."""
        name = self.config()["cascade"]["middle"]["service"]
        return str((self.get("Service", name) or {})["spec"]["selector"][labels.DIGEST])

    def why(self) -> str:
        return str(next(each["message"] for each in self.status()["conditions"] if each["type"] == "Accepted"))


@pytest.fixture
def three() -> Three:
    return Three()


MODELS = (model(source=CLASSES, edge=THREE), model("near", source=CLASSES), model("other", source=CLASSES))


def wanted(**more: Any) -> dict[str, Any]:
    return model(source=CLASSES, edge=THREE, **more)


def test_it_is_built_once_the_model_between_is_and_told_which(three: Three) -> None:
    three.apply(wanted())
    three.settle()
    assert three.condition("Accepted") == ("False", "SourceUnusable")
    assert "there is no DistilledModel near" in three.why()
    three.apply(model("near", source=CLASSES))
    three.settle("near")
    three.settle()
    assert three.condition("Accepted")[0] == "True"
    assert three.condition("Stalled") == ("", ""), "it goes on by itself"
    assert three.condition("Ready") == ("False", "Building")
    assert "first accepted revision of near" in three.status()["progress"]
    assert not three.kube.names(by_name("Job"))[1:], "near's alone"
    three.near()
    three.settle()
    assert three.condition("Accepted")[0] == "True"
    (container,) = (three.job("resolve") or {})["spec"]["template"]["spec"]["containers"]
    (told,) = [json.loads(each["value"]) for each in container["env"] if each["name"] == "STILLHOUSE_SOURCES"]
    assert told["still:near"] == NEAR


def test_what_is_written_of_it_is_work_of_who_has_it_between() -> None:
    """The echo of our own write is read by nobody."""
    cache = Cache()
    m, near, other = ({**each, "metadata": {**each["metadata"], "uid": "1", "resourceVersion": "5"}} for each in MODELS)
    assert set(cache.put(m)) == {(NAMESPACE, "m")}
    assert set(cache.put(near)) == {(NAMESPACE, "near"), (NAMESPACE, "m")}
    cache.put(other)
    assert cache.stirred() == set()
    told = {**near, "metadata": {**near["metadata"], "resourceVersion": "6"}, "status": {"revision": {"digest": NEAR}}}
    cache.wrote(told)
    assert cache.stirred() == {(NAMESPACE, "m")}
    assert cache.stirred() == set()
    found = cache.observe((NAMESPACE, "m"))
    assert found is not None and found.middle is not None and found.middle["status"] == told["status"]
    without = {**m, "metadata": {**m["metadata"], "resourceVersion": "7"}, "spec": model()["spec"]}
    cache.put(without)
    assert set(cache.drop(told)) == {(NAMESPACE, "near")}


def test_another_revision_of_it_is_another_request(three: Three) -> None:
    three.near()
    three.apply(wanted())
    three.solve()
    (made,) = [three.get("ModelRevision", name) for name in three.kube.names(REVISION) if name.startswith("m-")]
    assert made is not None
    assert ModelRevision.model_validate(made).spec.middle is not None
    assert three.service() == "e" * 32
    # An old pod of the gateway has thresholds of the old one.
    three.pod(f"{GATEWAY}-1", "gateway", **{labels.REVISION: made["metadata"]["name"]})
    three.near(NEWER, batch=16)
    three.settle()
    assert three.condition("Built")[0] == "False"
    assert three.service() == "e" * 32, "what was solved is with the artifact of before"
    three.pod(
        "m-main-1", "serve", **{labels.REVISION: names.revision("m", three.request(three.get("DistilledModel", "m") or {}))}
    )
    three.solve("sha256:" + "1" * 64)
    assert three.service() == "f" * 32
    both = [name for name in three.kube.names(by_name("Service")) if name.startswith("m-main-middle-")]
    assert both == ["m-main-middle-eeeeeeee", "m-main-middle-ffffffff"]


def test_its_own_gateway_stands_before_it(three: Three) -> None:
    three.near()
    three.apply(model("near", source=CLASSES, edge={}))
    three.settle("near")
    three.apply(wanted())
    three.settle()
    assert three.condition("Accepted") == ("False", "SourceUnusable")
    assert "spec.edge.cascade.middle.address" in three.why()
    at = {"cascade": {**THREE["cascade"], "middle": {"model": "near", "address": "grpcs://near:443"}}}
    three.apply(model(source=CLASSES, edge=at))
    three.settle()
    assert three.condition("Accepted")[0] == "True"


def test_a_model_does_not_stand_between_itself(three: Three) -> None:
    three.apply(model(source=CLASSES, edge={"cascade": {**THREE["cascade"], "middle": {"model": "m"}}}))
    three.settle()
    assert three.condition("Accepted") == ("False", "SourceUnusable")
    assert DIGEST not in json.dumps(three.status())
