"""Whole lives of models, many at once, on a real API server: what users ask, and what controllers would do with it.

The controllers here are as level-triggered as the real ones: they look at what is there and bring it one step on, for ever.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from kubernetes import client
from tests.support.cluster import model, record

__all__ = ["STEPS", "Lives"]

A, B = model(), model(compress={"precision": "fp32"}, scale={"minReplicas": 2, "maxReplicas": 4})
EXTERNAL = model(compress={"precision": "fp32"}, scale={"mode": "external", "replicas": 3})
STEPS = (A, B, EXTERNAL, A)
"""Two builds, the autoscaler taken away, and back to the first without a build: every kind of write that there is."""
_PLACE = ("stillhouse.io", "v1alpha1")
_PATIENCE_S = 90.0
_NOW = "2026-01-01T00:00:00Z"
_OF_A_RUN = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "namespace")
_KINDS = (
    ("stillhouse.io/v1alpha1", "distilledmodels"),
    ("stillhouse.io/v1alpha1", "modelrevisions"),
    ("apps/v1", "deployments"),
    ("batch/v1", "jobs"),
    ("autoscaling/v2", "horizontalpodautoscalers"),
    ("policy/v1", "poddisruptionbudgets"),
    ("networking.k8s.io/v1", "networkpolicies"),
    ("v1", "services"),
    ("v1", "serviceaccounts"),
)
"""All that a model has, the model first."""
_VERSIONS = {plural: version for version, plural in _KINDS}


class Lives:
    """One model in each of some new namespaces, which go the same way step by step."""

    def __init__(self, api: client.ApiClient, count: int) -> None:
        self._api = api
        self._objects = client.CustomObjectsApi(api)
        self._apps, self._core, self._batch = client.AppsV1Api(api), client.CoreV1Api(api), client.BatchV1Api(api)
        self.namespaces = [f"life-{secrets.token_hex(5)}" for _ in range(count)]
        for name in self.namespaces:
            self._core.create_namespace({"metadata": {"name": name}})

    def live(self) -> None:
        """Go the whole way. Raises `AssertionError` where a model does not come to serve what it asks for."""
        for body in STEPS:
            for namespace in self.namespaces:
                self.apply(namespace, body)
            self.until(lambda: not self.waiting())

    def apply(self, namespace: str, body: dict[str, Any]) -> None:
        """Create a model, or replace its spec."""
        mine = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
        try:
            self._objects.create_namespaced_custom_object(*_PLACE, namespace, "distilledmodels", mine)
        except client.ApiException as error:
            if error.status != 409:
                raise
            patch = [{"op": "replace", "path": "/spec", "value": body["spec"]}]
            form = "application/json-patch+json"
            self._objects.patch_namespaced_custom_object(*_PLACE, namespace, "distilledmodels", "m", patch, _content_type=form)

    def until(self, done: Callable[[], bool]) -> None:
        """Let the controllers work until something is so."""
        deadline = time.monotonic() + _PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, f"it goes on waiting: {self.waiting()}"
            self.work()
            time.sleep(0.1)

    def waiting(self) -> dict[str, Any]:
        """Return the conditions of models that do not serve yet what their newest spec asks for, by namespace."""
        found = {}
        for body in self._list("distilledmodels"):
            status = body.get("status") or {}
            conditions = {each["type"]: (each["status"], each["reason"]) for each in status.get("conditions") or []}
            current = status.get("observedGeneration") == body["metadata"]["generation"]
            if not current or conditions.get("Ready") != ("True", "Serving"):
                found[body["metadata"]["namespace"]] = {"current": current, **conditions}
        return found

    def work(self) -> None:
        """Let every Job, every autoscaler and every Deployment go on."""
        for job in self._list("jobs"):
            if not (job.get("status") or {}).get("conditions"):
                self._gently(lambda job=job: self._end(job))
        least = {each["metadata"]["namespace"]: each["spec"]["minReplicas"] for each in self._list("horizontalpodautoscalers")}
        for deployment in self._list("deployments"):
            name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
            if deployment["spec"]["replicas"] < least.get(namespace, 1):
                more = {"spec": {"replicas": least[namespace]}}
                place = (name, namespace, more)
                self._gently(lambda place=place: self._apps.patch_namespaced_deployment_scale(*place))
                continue
            count, generation = deployment["spec"]["replicas"], deployment["metadata"]["generation"]
            told = dict.fromkeys(("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"), count)
            wanted = {"observedGeneration": generation, **told}
            if wanted.items() - (deployment.get("status") or {}).items():
                self._gently(lambda place=(name, namespace), wanted=wanted: self._roll(place, wanted))

    def _roll(self, place: tuple[str, str], status: dict[str, Any]) -> None:
        self._apps.patch_namespaced_deployment_status(*place, {"status": status})

    def _end(self, job: dict[str, Any]) -> None:
        """Let a stage's pod, and then its Job, end well. A build's digest is told by what was asked for."""
        meta = job["metadata"]
        namespace, marks = meta["namespace"], meta["labels"]
        if marks["stillhouse.io/stage"] == "resolve":
            told: dict[str, Any] = {"next": "gate"}
        else:
            told = {"next": None, "record": record("sha256:" + (marks["stillhouse.io/request"] * 2)[:64])}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
        labels = job["spec"]["template"]["metadata"]["labels"]
        name = f"{meta['name']}-{meta['uid'][:5]}"
        pod = {
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "worker", "image": "localhost/none"}]},
        }
        self._gently(lambda: self._core.create_namespaced_pod(namespace, pod))
        ended = {"exitCode": 0, "reason": "Completed", "message": json.dumps(told)}
        worker = {"name": "worker", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": {"terminated": ended}}
        self._core.patch_namespaced_pod_status(name, namespace, {"status": {"phase": "Succeeded", "containerStatuses": [worker]}})
        met = [{"type": kind, "status": "True", "lastTransitionTime": _NOW} for kind in ("SuccessCriteriaMet", "Complete")]
        done = {"startTime": _NOW, "completionTime": _NOW, "succeeded": 1, "conditions": met}
        self._batch.patch_namespaced_job_status(meta["name"], namespace, {"status": done})

    def _gently(self, deed: Callable[[], Any]) -> None:
        """Do what the operator may have made impossible meanwhile: an object that is gone, or there already."""
        try:
            deed()
        except client.ApiException as error:
            if error.status not in (404, 409):
                raise

    def ends(self) -> dict[str, dict[str, Any]]:
        """Return all that is there by namespace, as kind/name, without what differs from run to run.

        Raises `AssertionError` where an object belongs to nobody, or not to the model of its namespace.
        """
        found: dict[str, dict[str, Any]] = {namespace: {} for namespace in self.namespaces}
        uids = {}
        for _, plural in _KINDS:
            for each in self._list(plural):
                meta = each["metadata"]
                if plural == "distilledmodels":
                    uids[meta["namespace"]] = meta["uid"]
                else:
                    owners = [owner["uid"] for owner in meta.get("ownerReferences") or []]
                    assert owners == [uids[meta["namespace"]]], f"{plural}/{meta['name']} is an orphan"
                found[meta["namespace"]][f"{plural}/{meta['name']}"] = _without_the_run(each)
        return found

    def _list(self, plural: str) -> list[dict[str, Any]]:
        selector = "" if plural == "distilledmodels" else "stillhouse.io/model"
        group, _, version = _VERSIONS[plural].rpartition("/")
        if group:
            listed: Any = self._objects.list_cluster_custom_object(group, version, plural, label_selector=selector)
        else:
            method = f"list_{plural.removesuffix('s').replace('serviceaccount', 'service_account')}_for_all_namespaces"
            listed = json.loads(getattr(self._core, method)(label_selector=selector, _preload_content=False).data)
        return [each for each in listed["items"] if each["metadata"]["namespace"] in self.namespaces]


def _without_the_run(body: dict[str, Any]) -> dict[str, Any]:
    body = json.loads(json.dumps(body).replace(body["metadata"]["namespace"], "NAMESPACE"))
    meta = body["metadata"]
    (meta.get("annotations") or {}).pop("stillhouse.io/applied", None)  # a hash in which the namespace is
    for part in _OF_A_RUN:
        meta.pop(part, None)
    for owner in meta.get("ownerReferences") or []:
        owner.pop("uid")
    if body["spec" if "spec" in body else "metadata"].get("clusterIP", "None") != "None":
        del body["spec"]["clusterIP"], body["spec"]["clusterIPs"]
    status = body.get("status") or {}
    status.pop("observedGeneration", None)
    for condition in status.get("conditions") or []:
        condition.pop("lastTransitionTime", None)
        condition.pop("observedGeneration", None)
    return body
