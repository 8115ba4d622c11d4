"""A model in halves: the gateway has the lower one once pods of the same revision have the upper one, and as long as they do."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cluster import NAMESPACE, model, record
from tests.support.fronted import GATEWAY, Fronted

from stillhouse.api.revision import ModelRevision
from stillhouse.clients.kube.kinds import POD, REVISION
from stillhouse.resources import labels, names
from stillhouse.resources.gateway import CONFIG

CUT, OTHER = "sha256:" + "c" * 64, "sha256:" + "9" * 64
GATE = {"data": {"uri": "data:gate"}}
DAEMON = {"run": {"kind": "DaemonSet"}}


class Halved(Fronted):
    """Model `m`, with or without a cut."""

    def wants(self, *, cut: bool = True, batch: int = 32, **edge: Any) -> str:
        """Ask for it; return the name of the revision that it will be."""
        halves = {"cut": {"layer": "encoder.2"}} if cut else {}
        body = model(gate=GATE, serve={"batching": {"maxBatchSize": batch}}, edge={**halves, **edge})
        self.apply(body)
        return names.revision("m", self.request(body))

    def made(self, cut: str | None = CUT) -> None:
        self.settle()
        self.end("resolve", {"next": "gate"})
        self.settle()
        self.end("gate", {"next": None, "record": {**record(), **({"cut": cut} if cut else {})}})
        self.settle()

    def answers(self, revision: str) -> None:
        self.pod(f"m-main-{revision}", "serve", **{labels.REVISION: revision})
        self.settle()

    def edge(self, kind: str = "Deployment") -> tuple[str, str]:
        """Return what the gateway has, and whom it asks."""
        import json

        template = (self.get(kind, GATEWAY) or {})["spec"]["template"]
        config = json.loads(template["metadata"]["annotations"][CONFIG])
        asked = config["edge"] if config["edge"]["kind"] == "slices" else (config.get("cut") or {}).get("upper", {})
        return config["edge"]["kind"], str(asked.get("service", ""))

    def served(self) -> list[str]:
        (container,) = (self.get("Deployment", "m-main") or {})["spec"]["template"]["spec"]["containers"]
        return [each for each in container["args"] if each.startswith("--cut")]


@pytest.fixture
def halved() -> Halved:
    """Whole yet, with a gateway before it."""
    found = Halved()
    first = found.wants(cut=False)
    found.made(None)
    found.roll()
    found.start()
    found.answers(first)
    return found


def test_the_gateway_waits_for_a_pod_that_has_the_other_half(halved: Halved) -> None:
    assert halved.edge() == ("slices", "m-main-backend")
    revision = halved.wants()
    halved.made()
    assert halved.condition("Accepted")[0] == "True"
    made = halved.get("ModelRevision", revision)
    assert ModelRevision.model_validate(made).spec.cut == CUT
    assert halved.served() == [f"--cut={CUT}"]
    assert halved.edge() == ("slices", "m-main-backend"), "nobody has the upper half yet"
    halved.answers(revision)
    assert halved.edge() == ("lower", f"{revision}-pods")
    chosen = (halved.get("Service", f"{revision}-pods") or {})["spec"]["selector"]
    assert chosen[labels.REVISION] == revision


def test_halves_of_two_revisions_never_meet(halved: Halved) -> None:
    first = halved.wants()
    halved.made()
    halved.answers(first)
    old = halved.pod(f"{GATEWAY}-1", "gateway", **{labels.REVISION: first})
    second = halved.wants(batch=16)
    halved.made(OTHER)
    assert halved.edge() == ("lower", f"{first}-pods"), "what is new has no pod yet"
    halved.answers(second)
    assert halved.edge() == ("lower", f"{second}-pods")
    for revision in (first, second):
        chosen = (halved.get("Service", f"{revision}-pods") or {})["spec"]["selector"]
        assert chosen[labels.REVISION] == revision, "an old gateway asks its own revision's pods to its end"
    halved.run(halved.kube.delete(POD, NAMESPACE, old["metadata"]["name"], old["metadata"]["uid"]))
    halved.settle()
    assert halved.get("Service", f"{first}-pods") is None


def test_on_every_node_it_is_whole_until_it_is_cut_and_again_after(halved: Halved) -> None:
    halved.wants(cut=False, **DAEMON)
    halved.settle()
    halved.start(2, "DaemonSet")
    halved.settle()
    assert halved.edge("DaemonSet") == ("engine", "")
    assert halved.get("RoleBinding", GATEWAY) is None
    first = halved.wants(**DAEMON)
    halved.made()
    assert halved.edge("DaemonSet") == ("engine", ""), "texts stay where they were while the new pods start"
    halved.answers(first)
    assert halved.edge("DaemonSet") == ("lower", f"{first}-pods")
    assert halved.get("RoleBinding", GATEWAY) is not None
    halved.later(61)
    assert halved.open_to() is not None, "the gateway asks the model's pods, and nobody else does"

    old = halved.pod(f"{GATEWAY}-1", "gateway", **{labels.REVISION: first})
    halved.wants(cut=False, **DAEMON)
    halved.settle()
    assert halved.edge("DaemonSet") == ("engine", "")
    assert halved.get("Service", f"{first}-pods") is not None, "a gateway that has half of it still asks for the other"
    assert halved.get("RoleBinding", GATEWAY) is not None
    assert halved.open_to() is None
    halved.run(halved.kube.delete(POD, NAMESPACE, old["metadata"]["name"], old["metadata"]["uid"]))
    halved.settle()
    assert halved.get("Service", f"{first}-pods") is None
    assert halved.get("RoleBinding", GATEWAY) is None
    assert len(halved.kube.names(REVISION)) >= 2
