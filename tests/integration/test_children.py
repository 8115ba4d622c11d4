"""Children of a model that somebody edits or deletes by hand, on a real API server: the operator makes each as it was."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError
from tests.support.cluster import SOURCES, model
from tests.support.hands import Hands, eventually
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import Operator, install_crds, running_operator

from stillhouse.resources import names

Child = tuple[str, str, str]
CHILDREN: dict[Child, dict[str, Any]] = {
    ("v1", "ServiceAccount", names.account("m")): {"automountServiceAccountToken": True},
    ("networking.k8s.io/v1", "NetworkPolicy", names.workload("m")): {"spec": {"ingress": [{}], "egress": [{}]}},
    ("v1", "Service", names.client_service("m")): {"spec": {"selector": {"stillhouse.io/model": "another"}}},
    ("v1", "Service", names.backend("m")): {"spec": {"selector": {"stillhouse.io/variant": "another"}}},
    ("apps/v1", "Deployment", names.workload("m")): {"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}},
    ("policy/v1", "PodDisruptionBudget", names.workload("m")): {"spec": {"maxUnavailable": "100%"}},
    ("autoscaling/v2", "HorizontalPodAutoscaler", names.workload("m")): {"spec": {"maxReplicas": 99}},
}
"""What each is, and an edit that would hurt."""
each_child = pytest.mark.parametrize("child", CHILDREN, ids=lambda child: f"{child[1]}-{child[2]}")


class Live:
    """The children in the namespace of one model that serves."""

    def __init__(self, api: client.ApiClient, namespace: str, operator: Operator) -> None:
        self._dynamic, self._namespace, self.operator = DynamicClient(api), namespace, operator

    def _kind(self, child: Child) -> Any:
        return self._dynamic.resources.get(api_version=child[0], kind=child[1])

    def read(self, child: Child) -> dict[str, Any]:
        """Return a child; empty where it is not there."""
        try:
            body: dict[str, Any] = self._kind(child).get(name=child[2], namespace=self._namespace).to_dict()
        except NotFoundError:
            return {}
        return body

    def edit(self, child: Child, change: dict[str, Any]) -> None:
        self._kind(child).patch(
            body=change, name=child[2], namespace=self._namespace, content_type="application/merge-patch+json"
        )

    def delete(self, child: Child) -> None:
        self._kind(child).delete(name=child[2], namespace=self._namespace)

    def children(self) -> set[Child]:
        """Return every object of the kinds in question that the model owns."""
        kinds = {(version, kind) for version, kind, _ in CHILDREN}
        return {
            (version, kind, each["metadata"]["name"])
            for version, kind in kinds
            for each in self._dynamic.resources.get(api_version=version, kind=kind)
            .get(namespace=self._namespace)
            .to_dict()["items"]
            if any(owner["kind"] == "DistilledModel" for owner in each["metadata"].get("ownerReferences") or [])
        }


def content(body: dict[str, Any]) -> dict[str, Any]:
    """Return what somebody decides of an object: without its identity, versions and status."""
    meta = body.get("metadata", {})
    kept = {part: meta.get(part) for part in ("labels", "annotations", "ownerReferences")}
    return {**{name: value for name, value in body.items() if name not in ("metadata", "status")}, "metadata": kept}


@pytest.fixture(scope="module")
def live(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    install_crds(control_plane)
    space = f"children-{secrets.token_hex(4)}"
    folder = tmp_path_factory.mktemp("children")
    with control_plane.client() as api:
        client.CoreV1Api(api).create_namespace({"metadata": {"name": space}})
        hands = Hands(api, space)
        with running_operator(control_plane, folder, namespace=space, lease_namespace=space, sources=SOURCES) as operator:
            hands.apply(model(scale={"minReplicas": 1, "maxReplicas": 3}))
            hands.build()
            hands.roll()
            eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
            yield Live(api, space, operator)


def test_every_child_is_looked_at_here(live: Live) -> None:
    assert live.children() == set(CHILDREN)


@each_child
def test_an_edit_by_hand_is_undone(live: Live, child: Child) -> None:
    before = live.read(child)
    live.edit(child, CHILDREN[child])
    eventually(lambda: content(live.read(child)) == content(before))
    after = live.read(child)
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "it was mended and not made anew"
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"], "the edit took place"


@each_child
def test_what_was_deleted_by_hand_is_made_again(live: Live, child: Child) -> None:
    before = live.read(child)
    live.delete(child)
    eventually(lambda: (live.read(child).get("metadata") or {}).get("uid") not in (None, before["metadata"]["uid"]))
    assert content(live.read(child)) == content(before)
    assert not [each for each in live.operator.records() if each["level"] in ("ERROR", "CRITICAL")]
