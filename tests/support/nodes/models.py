"""What a user does with a cluster: claims, sources on them, models, questions to them, and what can be seen meanwhile."""

from __future__ import annotations

import collections
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client
from tests.support.nodes.cluster import Cluster
from tests.support.nodes.commands import CommandFailed

__all__ = ["CLAIM", "Models"]

CLAIM = "stillhouse-models"
_PLACE = ("stillhouse.io", "v1alpha1")
_T = TypeVar("_T")
_CLIENT = Path(__file__).with_name("asking.py")
_PROGRESS = "import sys, urllib.request as u; print(u.urlopen(f'http://{sys.argv[1]}:8090/progress', timeout=5).read().decode())"


class Models:
    """The models of one namespace."""

    def __init__(self, cluster: Cluster, api: client.ApiClient, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.core = client.CoreV1Api(api)
        self.apps = client.AppsV1Api(api)
        self.batch = client.BatchV1Api(api)
        self.objects = client.CustomObjectsApi(api)

    def claim(self, name: str = CLAIM, modes: tuple[str, ...] = ("ReadWriteMany",), volumes: str | None = None) -> Path:
        """Make a claim, of the default StorageClass or another; return the folder of this machine that its volume is."""
        request = client.V1VolumeResourceRequirements(requests={"storage": "1Gi"})
        spec = client.V1PersistentVolumeClaimSpec(access_modes=list(modes), resources=request, storage_class_name=volumes)
        body = client.V1PersistentVolumeClaim(metadata=client.V1ObjectMeta(name=name), spec=spec)
        self.core.create_namespaced_persistent_volume_claim(self.namespace, body)
        return self.volume(name)

    def volume(self, name: str = CLAIM) -> Path:
        """Return the folder of this machine that a claim's volume is, once it is bound."""

        def bound() -> Any:
            return self.core.read_namespaced_persistent_volume_claim(name, self.namespace).spec.volume_name

        volume = self.core.read_persistent_volume(self.eventually(bound))
        return Path(volume.spec.host_path.path)

    def put(self, folder: Path, claim: Path, inside: str = "sources") -> None:
        """Copy a folder onto a claim."""
        shutil.copytree(folder, claim / inside, dirs_exist_ok=True)
        for path in [claim / inside, *(claim / inside).rglob("*")]:  # pods are another user, and own nothing here
            path.chmod(0o755 if path.is_dir() else 0o644)

    def bind(self, sources: dict[str, str]) -> None:
        """Bind named sources in this namespace."""
        meta = client.V1ObjectMeta(name="stillhouse-sources", labels={"stillhouse.io/sources": "bindings"})
        data = {name.replace(":", "."): uri for name, uri in sources.items()}
        self.core.create_namespaced_config_map(self.namespace, client.V1ConfigMap(metadata=meta, data=data))

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a model or replace its spec."""
        name = body["metadata"]["name"]
        try:
            live = self.get(name)
        except client.ApiException:
            made: dict[str, Any] = self.objects.create_namespaced_custom_object(*_PLACE, self.namespace, "distilledmodels", body)
            return made
        live["spec"] = body["spec"]
        done: dict[str, Any] = self.objects.replace_namespaced_custom_object(
            *_PLACE, self.namespace, "distilledmodels", name, live
        )
        return done

    def get(self, name: str) -> dict[str, Any]:
        """Return a model."""
        found: dict[str, Any] = self.objects.get_namespaced_custom_object(*_PLACE, self.namespace, "distilledmodels", name)
        return found

    def status(self, name: str) -> dict[str, Any]:
        """Return a model's status."""
        found: dict[str, Any] = self.get(name).get("status") or {}
        return found

    def condition(self, name: str, kind: str) -> tuple[str, str]:
        """Return status and reason of a condition; ("", "") where it is not there, or speaks of an older generation."""
        body = self.get(name)
        status = body.get("status") or {}
        if status.get("observedGeneration") != body["metadata"]["generation"]:
            return "", ""
        found = {each["type"]: (each["status"], each["reason"]) for each in status.get("conditions", [])}
        return found.get(kind, ("", ""))

    def conditions(self, name: str) -> dict[str, dict[str, Any]]:
        """Return a model's conditions by their types, whatever generation they speak of."""
        return {each["type"]: each for each in self.status(name).get("conditions", [])}

    def events(self, name: str) -> list[tuple[str, str]]:
        """Return reason and text of the events that tell of a model."""
        found = self.core.list_namespaced_event(self.namespace, field_selector=f"involvedObject.name={name}").items
        return [(each.reason, each.message) for each in found if each.involved_object.kind == "DistilledModel"]

    def build_pods(self) -> collections.Counter[str]:
        """Return how many pods the builds of this namespace ever had, by their stages; also of Jobs that have gone."""
        found = self.core.list_namespaced_event(self.namespace, field_selector="reason=SuccessfulCreate").items
        pods = collections.Counter[str]()
        for each in found:
            if each.involved_object.kind == "Job":
                pods[each.involved_object.name.rpartition("-")[2]] += each.count or 1
        return pods

    def wait_ready(self, name: str, seconds: float = 300) -> dict[str, Any]:
        """Wait until the model is Ready; return its status."""
        self.eventually(lambda: self._settled(name), seconds, about=name)
        ready = self.condition(name, "Ready")
        assert ready[0] == "True", json.dumps(self.status(name), indent=1) + self.cluster.story(self.namespace)
        return self.status(name)

    def _settled(self, name: str) -> bool:
        return "True" in (self.condition(name, "Ready")[0], self.condition(name, "Stalled")[0])

    def pods(self, name: str, component: str = "serve", *, ending: bool = False) -> list[Any]:
        """Return a model's pods that are not about to end; `ending`: those as well, which serve on for 40 s."""
        chosen = f"stillhouse.io/model={name},app.kubernetes.io/component={component}"
        found = self.core.list_namespaced_pod(self.namespace, label_selector=chosen).items
        return [pod for pod in found if ending or pod.metadata.deletion_timestamp is None]

    def ask(self, name: str, *words: str, timeout_s: float = 60, address: str = "") -> dict[str, Any]:
        """Ask a model as a client in the cluster's network would, or one pod of it; return what `asking.py` says."""
        address = address or f"dns:///{name}.{self.namespace}.svc.cluster.local:8001"
        return dict(json.loads(self.cluster.run(sys.executable, str(_CLIENT), address, name, *words, timeout_s=timeout_s)))

    def asking(self, name: str, *words: str) -> subprocess.Popen[str]:
        """Start the same in the background; its output is one JSON object when it ends (SIGTERM ends it)."""
        address = f"dns:///{name}.{self.namespace}.svc.cluster.local:8001"
        command = self.cluster.within(sys.executable, str(_CLIENT), address, name, *words)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def steps(self, pod: Any) -> int:
        """Return how many steps of training a build's pod says that it has made; 0 where it says nothing yet."""
        node = int(pod.spec.node_name.removeprefix("node"))
        try:
            told = json.loads(self.cluster.run(sys.executable, "-c", _PROGRESS, pod.status.pod_ip, number=node))
        except CommandFailed:
            return 0
        return int(told["done"]) if told["unit"] == "steps" else 0

    def told(self, name: str, reason: str, words: str) -> None:
        """Wait for a model's Event; it is written after the status that it tells of."""
        self.eventually(lambda: any(each == reason and words in text for each, text in self.events(name)), about=name)

    def eventually(self, look: Callable[[], _T], seconds: float = 60, about: str = "") -> _T:
        """Wait until `look` returns something true; tell what is to be seen of the namespace where it does not."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                status = json.dumps(self.status(about), indent=1) if about else ""
                raise AssertionError(f"not within {seconds:.0f} s\n{status}\n{self.cluster.story(self.namespace)}")
            time.sleep(0.3)
        return found
