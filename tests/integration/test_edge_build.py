"""Cascades of three, models in halves and steps through the operator: what Jobs build, pods serve, gateways are given.

Containers are started as the kubelet would, as processes; what is not here is in `test_real_build.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kubernetes import client
from tests.integration.test_real_build import CLAIM, run_job, started
from tests.support.cli import NAME, Project, write_rows
from tests.support.cli_servers import wait_until
from tests.support.hands import Hands, eventually
from tests.support.kube.control_plane import ControlPlane
from tests.support.kube.process import free_port
from tests.support.operator_process import install_crds, running_operator

from stillhouse.clients.triton import TritonClient
from stillhouse.edge.config import Config
from stillhouse.edge.sections.places import LargerSlices, Lower, Steps
from stillhouse.entrypoints.edge.verified import verify
from stillhouse.inference.preprocess.chain import read_chain
from stillhouse.planning.upper import UPPER
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


TEXTS = ["read the file", "a", "return the list of path name value", "open the file and write the warm value of the list"]


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.mark.timeout(600)
def test_a_model_in_halves_answers_through_the_gateway_as_it_does_whole(
    control_plane: ControlPlane, hands: Hands, tmp_path: Path
) -> None:
    """The gateway's pods find the model's by slices (`test_front.py`); here the two processes are told of each other."""
    site = Site(tmp_path, hands)
    where = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": site.sources}
    with running_operator(control_plane, tmp_path / "operator", **where):
        hands.apply(site.spec(NAME, edge={"cut": {"layer": "rows"}}))
        record = site.build(NAME)
        live = eventually(lambda: hands.apps.read_namespaced_deployment(f"{NAME}-main", hands.namespace))
        (container,) = live.spec.template.spec.containers
        assert f"--cut={record['cut']}" in container.args
        given = site.config()
        config = Config.model_validate(given)
        verify(config)
        assert isinstance(config.edge, Lower) and config.cut is not None and isinstance(config.cut.upper, LargerSlices)
        service = hands.core.read_namespaced_service(config.cut.upper.service, hands.namespace)
        assert service.spec.selector.items() <= live.spec.template.metadata.labels.items()

        grpc, health, door, metrics = (free_port() for _ in range(4))
        ports = (f"--grpc-port={grpc}", f"--health-port={health}", f"--metrics-port={free_port()}", "--host=127.0.0.1")
        upper = {"kind": "backends", "model": config.cut.upper.model, "backends": {f"127.0.0.1:{grpc}": 1.0}}
        listen = {"grpc": f"127.0.0.1:{door}", "rest": None, "metrics": f"127.0.0.1:{metrics}"}
        (tmp_path / "gateway.json").write_text(json.dumps({**given, "listen": listen, "cut": {"upper": upper}}))
        words = [sys.executable, "-m", "stillhouse.entrypoints.gateway", f"--config={tmp_path / 'gateway.json'}", "--verify"]
        with (
            ending(started(container, tmp_path, ports)) as server,
            TritonClient(f"127.0.0.1:{grpc}", timeout_s=5.0, retries=0) as pods,
            TritonClient(f"127.0.0.1:{door}", timeout_s=5.0, retries=0) as clients,
        ):
            wait_until(lambda: server.poll() is not None or pods.ready(NAME), 120)
            assert pods.ready(NAME + UPPER)
            gateway = subprocess.Popen(words, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            with ending(gateway):
                wait_until(lambda: gateway.poll() is not None or clients.ready(NAME))
                whole, halves = pods.infer_texts(NAME, TEXTS), clients.infer_texts(NAME, TEXTS)
        assert whole.probabilities is not None and halves.probabilities is not None
        np.testing.assert_allclose(halves.probabilities, whole.probabilities, atol=1e-5)


def test_steps_are_packed_by_one_job_and_a_gateway_runs_them(control_plane: ControlPlane, hands: Hands, tmp_path: Path) -> None:
    """What a cluster has of such a file: one Job, and gateways; no pods serve, nothing scales."""
    site = Site(tmp_path, hands)
    steps = {"model": "behind", "address": "grpc://127.0.0.1:9", "steps": [{"kind": "tokenise", "maxLength": 8}]}
    where = {"namespace": hands.namespace, "lease_namespace": hands.namespace, "sources": site.sources}
    with running_operator(control_plane, tmp_path / "operator", **where):
        hands.apply(site.spec(NAME, gate=None, edge={"preprocess": steps}))
        record = site.build(NAME)
        assert (record["precision"], record["reason"]) == ("steps", "NoGate")
        config = Config.model_validate(site.config())
        verify(config)
        assert isinstance(config.edge, Steps) and config.edge.digest == record["digest"]
        chain = read_chain(config.edge.folder)
        assert chain is not None and [each.name for each in chain.outputs] == ["input_ids", "attention_mask"]
        eventually(lambda: hands.condition("GatewayAvailable", NAME) == ("False", "GatewayStarting"))
        hands.roll(GATEWAY)
        eventually(lambda: hands.condition("Ready", NAME) == ("True", "Serving"))
        (only,) = hands.apps.list_namespaced_deployment(hands.namespace).items
        assert only.metadata.name == GATEWAY
