"""Cascades of three and models in halves through the operator: what its Jobs build, its pods serve and its gateways are given.

Containers are started as the kubelet would, as processes; what is not here is in `test_real_build.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.integration.test_operator import Hands, eventually
from tests.integration.test_real_build import CLAIM, run_job
from tests.support.cli import NAME, Project, write_rows
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import install_crds, running_operator

from stillhouse.edge.config import Config, LargerSlices
from stillhouse.entrypoints.edge.verified import verify
from stillhouse.resources import labels
from stillhouse.resources.gateway import CONFIG
from stillhouse.resources.pods import CLAIMS

GATEWAY = f"{NAME}-main-gateway"


class Site:
    """A project on the claim of a namespace, and what it is called there."""

    def __init__(self, folder: Path, hands: Hands) -> None:
        self.folder, self.hands = folder, hands
        self.project = Project(folder / "project", folder / "none", folder / "cache", task="text-classification").create(
            index=False
        )
        write_rows(self.project.folder / "threshold.jsonl", {"text": "text"}, 500, seed=11)
        shutil.copytree(self.project.folder, folder / "claims" / CLAIM / "sources")
        self.body: dict[str, Any] = self.project.read()
        gate = self.body["spec"]["gate"]["data"]
        at = {"models:tiny": "teacher", "data:gate": gate["uri"].removeprefix("file://./"), "data:threshold": "threshold.jsonl"}
        gate["uri"] = "data:gate"
        self.sources = {name: f"pvc://{CLAIM}/sources/{place}" for name, place in at.items()}

    def spec(self, name: str, **parts: Any) -> dict[str, Any]:
        spec = {part: value for part, value in {**self.body["spec"], **parts}.items() if value is not None}
        return {**self.body, "metadata": {"name": name}, "spec": spec}

    def build(self, name: str) -> dict[str, Any]:
        """Let the Jobs of a build run to their end; return the record."""
        stage = "resolve"
        while stage:
            stage = run_job(self.hands, stage, self.folder)
        made = eventually(lambda: self.hands.get(name)["status"].get("revision"))
        space, chosen = self.hands.namespace, f"{labels.MODEL}={name}"
        eventually(lambda: not self.hands.batch.list_namespaced_job(space, label_selector=chosen).items)
        records = self.hands.objects.list_namespaced_custom_object(
            "stillhouse.io", "v1alpha1", self.hands.namespace, "modelrevisions"
        )["items"]
        found: dict[str, Any] = next(each["spec"] for each in records if each["metadata"]["name"] == made["name"])
        return found

    def config(self) -> dict[str, Any]:
        """Return the configuration of the gateway of model `tiny`, with its folders where they are here."""
        live = eventually(lambda: self.hands.apps.read_namespaced_deployment(GATEWAY, self.hands.namespace))
        text = live.spec.template.metadata.annotations[CONFIG]
        found: dict[str, Any] = json.loads(text.replace(CLAIMS, str(self.folder / "claims")))
        return found


@pytest.fixture
def hands(control_plane: ControlPlane, api_client: client.ApiClient, namespace: str) -> Hands:
    install_crds(control_plane)
    return Hands(api_client, namespace)


@pytest.mark.timeout(600)
def test_a_cascade_is_solved_with_what_serves_between(control_plane: ControlPlane, hands: Hands, tmp_path: Path) -> None:
    site = Site(tmp_path, hands)
    cascade = {
        "larger": {"model": "big", "address": "grpcs://cloud.example:443"}, "middle": {"model": "near"},
        "data": {"uri": "data:threshold"}, "escalationBudget": "60%",
    }  # fmt: skip
    where = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": site.sources}
    with running_operator(control_plane, tmp_path / "operator", **where):
        hands.apply(site.spec(NAME, edge={"cascade": cascade}))
        eventually(lambda: hands.condition("Accepted", NAME) == ("False", "SourceUnusable"))
        hands.apply(site.spec("near", gate=None))
        near = site.build("near")
        record = site.build(NAME)
        assert record["middle"] == {"model": "near", "digest": near["digest"]}
        assert {"name": "cascade-middle", "digest": near["digest"]}.items() <= next(
            each for each in record["lineage"]["sources"] if "middle" in each["name"]
        ).items()
        config = Config.model_validate(site.config())
        verify(config)
        assert config.cascade is not None and isinstance(config.cascade.middle, LargerSlices)
        solved = json.loads((config.cascade.folder / "cascade.json").read_bytes())["middle"]
        assert (solved["model"], solved["digest"]) == ("near", near["digest"])
        service = eventually(lambda: hands.core.read_namespaced_service(config.cascade.middle.service, hands.namespace))
        pods = hands.apps.read_namespaced_deployment("near-main", hands.namespace).spec.template.metadata.labels
        assert service.spec.selector.items() <= pods.items()
        assert service.spec.selector[labels.DIGEST] == near["digest"][7:39]
