"""Hands against a real API server without controllers: what they and a user would do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from tests.support.cluster import model, record

__all__ = ["PLACE", "Hands", "eventually"]

PLACE = ("stillhouse.io", "v1alpha1")
PATIENCE = 60.0


class Hands:
    """What other controllers and a user do, in one namespace."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self.objects = client.CustomObjectsApi(api)
        self.apps, self.core, self.batch = client.AppsV1Api(api), client.CoreV1Api(api), client.BatchV1Api(api)

    def apply(self, body: dict[str, Any]) -> None:
        body = {**body, "metadata": {**body["metadata"], "namespace": self.namespace}}
        name = body["metadata"]["name"]
        try:
            self.objects.create_namespaced_custom_object(*PLACE, self.namespace, "distilledmodels", body)
        except client.ApiException as error:
            if error.status != 409:
                raise
            eventually(lambda: self._replace(name, body["spec"]))

    def _replace(self, name: str, spec: dict[str, Any]) -> bool:
        """Replace a spec; False where the operator wrote the status in between."""
        live = self.get(name)
        live["spec"] = spec
        try:
            self.objects.replace_namespaced_custom_object(*PLACE, self.namespace, "distilledmodels", name, live)
        except client.ApiException as error:
            if error.status != 409:
                raise
            return False
        return True

    def get(self, name: str = "m") -> dict[str, Any]:
        found: dict[str, Any] = self.objects.get_namespaced_custom_object(*PLACE, self.namespace, "distilledmodels", name)
        return found

    def condition(self, kind: str, name: str = "m") -> tuple[str, str]:
        conditions = {each["type"]: each for each in self.get(name).get("status", {}).get("conditions", [])}
        return (conditions[kind]["status"], conditions[kind]["reason"]) if kind in conditions else ("", "")

    def jobs(self) -> dict[str, Any]:
        return {job.metadata.labels["stillhouse.io/stage"]: job for job in self.batch.list_namespaced_job(self.namespace).items}

    def run(self, stage: str, address: str) -> None:
        """Let the stage's pod run, with its worker at an address."""
        job = eventually(lambda: self.jobs().get(stage))
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.metadata.name, "uid": job.metadata.uid}
        meta = {"name": f"{job.metadata.name}-r", "labels": job.spec.template.metadata.labels, "ownerReferences": [owner]}
        pod = {"metadata": meta, "spec": {"containers": [{"name": "worker", "image": "localhost/none"}]}}
        self.core.create_namespaced_pod(self.namespace, pod)
        status = {"name": "worker", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {}}}
        told = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": [status]}
        self.core.patch_namespaced_pod_status(meta["name"], self.namespace, {"status": told})

    def end(self, stage: str, told: dict[str, Any], code: int = 0) -> None:
        """Let the stage's pod and Job end, well with exit code 0."""
        job = eventually(lambda: self.jobs().get(stage))
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.metadata.name, "uid": job.metadata.uid}
        meta = {
            "name": f"{job.metadata.name}-{job.metadata.uid[:8]}",
            "labels": job.spec.template.metadata.labels,
            "ownerReferences": [owner],
        }
        pod = {"metadata": meta, "spec": {"containers": [{"name": "worker", "image": "localhost/none"}]}}
        self.core.create_namespaced_pod(self.namespace, pod)
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "message": json.dumps(told)}
        status = {"name": "worker", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": {"terminated": ended}}
        self.core.patch_namespaced_pod_status(
            meta["name"], self.namespace, {"status": {"phase": "Failed" if code else "Succeeded", "containerStatuses": [status]}}
        )
        now = "2026-01-01T00:00:00Z"
        kinds = ("FailureTarget", "Failed") if code else ("SuccessCriteriaMet", "Complete")
        met = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds]
        count = {"failed": 1} if code else {"succeeded": 1, "completionTime": now}
        done = {"startTime": now, **count, "conditions": met}
        self.batch.patch_namespaced_job_status(job.metadata.name, self.namespace, {"status": done})

    def roll(self, name: str = "m-main") -> None:
        """Let the Deployment's pods come up."""
        live = eventually(lambda: self.apps.read_namespaced_deployment(name, self.namespace))
        count = live.spec.replicas
        told = dict.fromkeys(("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"), count)
        self.apps.patch_namespaced_deployment_status(
            name, self.namespace, {"status": {"observedGeneration": live.metadata.generation, **told}}
        )

    def build(self) -> None:
        self.end("resolve", {"next": "gate"})
        self.end("gate", {"next": None, "record": record()})
        eventually(lambda: self.condition("Built") == ("True", "Built"))

    def revisions(self) -> set[str]:
        """Return the digests of the model's revisions, for a failed build its reason."""
        found = self.objects.list_namespaced_custom_object(*PLACE, self.namespace, "modelrevisions")["items"]
        return {each["spec"].get("digest") or each["spec"]["reason"] for each in found}

    def build_again(self, batch: int, limit: int) -> str:
        """Ask for another build, let it succeed, and return its digest once it is recorded."""
        digest = "sha256:" + f"{batch:064x}"
        self.apply(model(serve={"batching": {"maxBatchSize": batch}, "revisionHistoryLimit": limit}))
        self.end("resolve", {"next": "gate"})
        self.end("gate", {"next": None, "record": record(digest)})
        eventually(lambda: digest in self.revisions() and not self.jobs())  # else the next build would be taken for this one
        return digest


def eventually(what: Callable[[], Any]) -> Any:
    """Return what a function gives as soon as it gives something; what is not there yet is nothing: 404, of a kind
    that has just been defined 429, and of an object whose status no one has written so far a KeyError."""
    deadline = time.monotonic() + PATIENCE
    while True:
        missing = ""
        try:
            found = what()
        except client.ApiException as error:
            if error.status not in (404, 429):
                raise
            found, missing = None, f" (the API server answers {error.status})"
        except KeyError as error:
            found, missing = None, f" (there is no {error})"
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"it did not happen within {PATIENCE:.0f} s{missing}")
        time.sleep(0.05)
