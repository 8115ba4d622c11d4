"""What `still doctor --cluster` looks at. Reads only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from stillhouse import __version__
from stillhouse.api.crd import crd, revision_crd
from stillhouse.clients.kube.interface import KubeError, Unavailable
from stillhouse.clients.kube.kinds import API_SERVICE, CONFIG_MAP, HPA, LEASE, MODEL, SCALED_OBJECT, Kind
from stillhouse.entrypoints.findings import Finding, finding
from stillhouse.entrypoints.remote.installed import Installed, installed
from stillhouse.entrypoints.remote.place import Place, claim_command
from stillhouse.entrypoints.remote.rights import rights_of_operator, rights_of_user
from stillhouse.planning.runtimes import FACTS
from stillhouse.resources import labels
from stillhouse.resources.metrics_api import APISERVICE, figures_of

__all__ = ["NEWEST", "OLDEST", "TESTED", "examine_cluster"]

OLDEST, NEWEST = (1, 32), (1, 35)
"""Versions of Kubernetes that are supported: what is asked of them is in each."""
TESTED = (1, 34)
"""The version that the tests run on."""
_CRD = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")
_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
_STALE_S = 60.0
_KEEP_OUT = (
    "its control APIs are locked and only gRPC is open to the cluster: let nobody in whom you do not trust (NetworkPolicies that "
    "the cluster's network enforces); with GPUs: serve.runtime: triton-nvidia"
)


async def examine_cluster(kube: Any, place: Place, operator_namespace: str) -> list[Finding]:
    """Return findings as plain data: `state` (ok, warning, failed), `title`, `detail`, `fix`. What may not be read: a warning.

    Raises:
        Unavailable: the API server does not answer at all.
    """
    release, unseen = await _release(kube, place, operator_namespace)
    upgrade = f"{_upgrade(place, release)} --reset-then-reuse-values"
    looks = (
        ("Kubernetes", _version(kube)),
        ("resource definitions", _definitions(kube, place)),
        ("operator", _operator(kube, place, release, upgrade)),
        ("operator's rights", rights_of_operator(kube, release, upgrade)),
        ("your rights", rights_of_user(kube, place, release)),
        ("store", _store(kube, place, release.claim)),
        ("sources", _sources(kube, place)),
        ("metrics API", _metrics(kube, place.namespace)),
        ("external metrics", _external(kube, place, operator_namespace, upgrade)),
        ("models", _models(kube, place, release)),
        ("runtimes", _runtimes(kube, place.namespace)),
    )
    found: list[Finding] = list(unseen)
    for title, look in looks:
        try:
            found += await look
        except KubeError as error:
            found.append(_unread(place, title, "cannot be looked at", error))
    return found


def _unread(place: Place, title: str, told: str, error: KubeError) -> Finding:
    """Return the finding of what may not be read; where nobody answers at all there is nothing to be found out: it is raised."""
    if isinstance(error, Unavailable) and not error.status:
        raise error
    what = error.problem.found or error.problem.message
    return finding("warning", title, f"{told}: {what}", f"ask for the right to read it ({place.kubectl('auth can-i --list')})")


def _upgrade(place: Place, release: Installed) -> str:
    return place.inside(release.namespace).helm(f"upgrade {release.release} charts/stillhouse")


async def _release(kube: Any, place: Place, namespace: str) -> tuple[Installed, list[Finding]]:
    """Return how the operator is installed; where that may not be looked at, with the usual names and a warning."""
    try:
        return await installed(kube, namespace), []
    except KubeError as error:
        unread = _unread(place, "operator", "its Deployment cannot be looked at, usual names are taken", error)
        return Installed(namespace, lease_namespace=namespace), [unread]


async def _version(kube: Any) -> list[Finding]:
    text = await kube.version()
    match = re.match(r"v(\d+)\.(\d+)", text)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    tested = f"supported are {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}, tested is {TESTED[0]}.{TESTED[1]}"
    if version < OLDEST:
        return [
            finding(
                "failed", "Kubernetes", f"{text}; {tested}", "upgrade the cluster: rules and fields that are needed are missing"
            )
        ]
    state = "ok" if version <= NEWEST else "warning"
    return [finding(state, "Kubernetes", f"{text}; {tested}", "look for a newer Stillhouse")]


async def _definitions(kube: Any, place: Place) -> list[Finding]:
    found = []
    for wanted in (crd(), revision_crd()):
        name = wanted["metadata"]["name"]
        live = await kube.get(_CRD, "", name)
        apply = f"still crd | {place.inside('').kubectl('apply --server-side -f -')}"
        if live is None:
            found.append(finding("failed", name, "is not installed", apply))
            continue
        there = {field for field, _ in _fields(live["spec"]["versions"][0]["schema"]["openAPIV3Schema"])}
        ours = {field for field, _ in _fields(wanted["spec"]["versions"][0]["schema"]["openAPIV3Schema"])}
        missing = sorted(ours - there)
        if missing:
            found.append(finding("failed", name, f"is of another version: {', '.join(missing[:5])} are unknown to it", apply))
        else:
            found.append(finding("ok", name, "installed"))
    return found


def _fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in (schema.get("properties") or {}).items():
        yield f"{path}.{name}", inner
        yield from _fields(inner, f"{path}.{name}")


async def _operator(kube: Any, place: Place, release: Installed, upgrade: str) -> list[Finding]:
    lease = await kube.get(LEASE, release.lease_namespace, release.lease)
    there = place.inside(release.namespace)
    install = there.helm("install stillhouse charts/stillhouse --create-namespace")
    found = _deployments(there, release, upgrade)
    if lease is None:
        none = f"no operator has ever led in namespace {release.lease_namespace} (Lease {release.lease})"
        return [finding("failed", "operator", none, install), *found]
    spec = lease["spec"]
    holder, renewed = spec.get("holderIdentity") or "", _seconds_since(str(spec.get("renewTime") or ""))
    logs = there.kubectl("logs -l app.kubernetes.io/component=operator")
    if not holder or renewed > _STALE_S:
        last = f"nobody leads (last was {holder or 'released'}, {renewed:.0f} s ago)"
        return [finding("failed", "operator", last, logs), *found]
    return [finding("ok", "operator", f"{holder} leads"), *found]


def _deployments(there: Place, release: Installed, upgrade: str) -> list[Finding]:
    """Say which version is installed, and how many pods there are of each part."""
    found = []
    if release.deployment is not None:
        told = f"{release.version or 'unknown'} ({release.image}); this still is {__version__}"
        same = release.version == __version__
        fix = f"install version {release.version} (in a clone at that version: pip install '.[operator]'), or with the chart of"
        fix += f" {__version__}: {upgrade}"
        found.append(finding("ok" if same else "warning", "operator's version", told, "" if same else fix))
    for title, value, deployment, why in (
        ("operator", "replicas", release.deployment, "while it moves, nobody works"),
        ("metrics API pods", "metricsAPI.replicas", release.metrics, "while it moves, no autoscaler is told a number"),
    ):
        if deployment is None:
            continue
        count = int(deployment["spec"].get("replicas", 1))
        ready = int((deployment.get("status") or {}).get("readyReplicas") or 0)
        if count < 2:
            found.append(finding("warning", title, f"{count} replica: {why}", f"two replicas: {upgrade} --set {value}=2"))
        if ready < count:
            fix = there.kubectl(f"describe deployment {deployment['metadata']['name']}")
            found.append(finding("warning" if ready else "failed", title, f"{ready} of {count} pods are ready", fix))
        elif title != "operator" and count > 1:
            found.append(finding("ok", title, f"{ready} of {count} are ready"))
    return found


async def _store(kube: Any, place: Place, name: str) -> list[Finding]:
    namespace = place.namespace
    claim = await kube.get(_CLAIM, namespace, name)
    if claim is None:
        fix = f"create PersistentVolumeClaim {name} (ReadWriteOnce where there is one node alone): {claim_command(place, name)}"
        return [finding("failed", "store", f"there is no claim {namespace}/{name}", fix)]
    modes = claim["spec"].get("accessModes") or []
    if "ReadWriteMany" not in modes:
        fix = "a class that offers ReadWriteMany; or keep every pod on the volume's node"
        return [finding("warning", "store", f"{name} is {', '.join(modes)}: pods on a second node cannot mount it", fix)]
    return [finding("ok", "store", f"{name}: {', '.join(modes)}")]


async def _sources(kube: Any, place: Place) -> list[Finding]:
    """Look whether the bindings carry the label without which the operator does not see them."""
    name, (mark, _, value) = labels.SOURCES_NAME, labels.SOURCES_LABEL.partition("=")
    live = await kube.get(CONFIG_MAP, place.namespace, name)
    if live is None or (live["metadata"].get("labels") or {}).get(mark) == value:
        told = f"{len((live or {}).get('data') or {})} bound in ConfigMap {name}" if live else f"no ConfigMap {name}"
        return [finding("ok", "sources", told)]
    fix = place.kubectl(f"label configmap {name} {labels.SOURCES_LABEL} --overwrite")
    return [finding("failed", "sources", f"ConfigMap {name} lacks label {labels.SOURCES_LABEL}: no operator reads it", fix)]


async def _metrics(kube: Any, namespace: str) -> list[Finding]:
    found = await kube.find(HPA, namespace, labels.MODEL)
    scaled = [each for each in found if any("resource" in metric for metric in each["spec"].get("metrics") or [])]
    service = await kube.get(API_SERVICE, "", "v1beta1.metrics.k8s.io")
    if _answers(service):
        return [finding("ok", "metrics API", "CPU use is measured: autoscalers can work")]
    detail = (
        f"CPU use is not measured: {len(scaled)} autoscalers here go by it and keep what there is"
        if service is None
        else "it does not answer"
    )
    return [finding("warning", "metrics API", detail, "install metrics-server (sigs.k8s.io/metrics-server)")]


def _answers(service: dict[str, Any] | None) -> bool:
    conditions = ((service or {}).get("status") or {}).get("conditions") or []
    return any(each.get("type") == "Available" and each.get("status") == "True" for each in conditions)


async def _external(kube: Any, place: Place, operator_namespace: str, upgrade: str) -> list[Finding]:
    """Say whose the external metrics are, and whether they answer: a dead API keeps every namespace from ending."""
    title = "external metrics"
    live = await kube.get(API_SERVICE, "", APISERVICE)
    if live is None:
        fix = f"{upgrade} --set metricsAPI.enabled=true,metricsAPI.register=true"
        return [finding("warning", title, "not registered: models of mode hpa scale by CPU", fix)]
    service = (live.get("spec") or {}).get("service") or {}
    figures = figures_of(live, operator_namespace, str(service.get("name") or "-"), keda=await kube.serves(SCALED_OBJECT))
    whose = {"queue": "ours", "keda": "KEDA's"}.get(figures.kind, figures.why)
    if not _answers(live):
        look = place.inside(str(service.get("namespace") or "")).kubectl(f"describe service {service.get('name')}")
        delete = place.inside("").kubectl(f"delete apiservice {APISERVICE}")
        fix = f"has its Service pods ({look})? where they are gone for good: {delete}"
        return [finding("failed", title, f"{whose}; it does not answer: no number changes, and no namespace can end", fix)]
    if figures.kind == "cpu":
        fix = "models of mode hpa scale by CPU; by queue time only where it is ours or KEDA's (docs/scaling.md)"
        return [finding("warning", title, whose, fix)]
    how = "by queue time and pending requests" if figures.kind == "queue" else "by a ScaledObject with the same figures"
    return [finding("ok", title, f"{whose}: models of mode hpa scale {how}")]


async def _models(kube: Any, place: Place, release: Installed) -> list[Finding]:
    found = []
    models = await kube.find(MODEL, place.namespace)
    values = place.inside(release.namespace).helm(f"get values {release.release} --all")
    for each in models:
        name, status = each["metadata"]["name"], each.get("status") or {}
        conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
        if not conditions:
            fix = f"is it in a namespace that the operator watches? value watchNamespace: {values}"
            found.append(finding("failed", name, "no operator has looked at it", fix))
        elif "Stalled" in conditions:
            stalled = conditions["Stalled"]
            told = f"{stalled['reason']}: {stalled['message']}"  # whole: what mends it stands at its end
            found.append(finding("failed", name, told, place.still(f"status {name}")))
        scale = each["spec"].get("scale") or {}
        if max(int(scale.get("minReplicas", 1)), int(scale.get("replicas", 1))) < 2:
            fix = "spec.scale.minReplicas: 2"
            found.append(finding("warning", name, "one replica: the drain of its node interrupts it", fix))
    return [*found, *([] if found else [finding("ok", "models", f"{len(models)} in {place.namespace}")])]


async def _runtimes(kube: Any, namespace: str) -> list[Finding]:
    """Say what is known against the servers that models here are served by."""
    found = []
    served: dict[str, list[str]] = {}
    for each in await kube.find(MODEL, namespace):
        runtime = ((each.get("status") or {}).get("revision") or {}).get("runtime", "")
        served.setdefault(runtime, []).append(each["metadata"]["name"])
    for runtime, models in sorted(served.items()):
        facts = FACTS.get(runtime)
        if facts is None:
            continue
        title = f"runtime {runtime}"
        if not facts.advisory:
            found.append(finding("ok", title, f"Triton {facts.server_version}"))
            continue
        detail = f"serves {', '.join(models[:5])}{' …' if len(models) > 5 else ''}. {facts.advisory}"
        found.append(finding("warning", title, detail, _KEEP_OUT))
    return found


def _seconds_since(moment: str) -> float:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except ValueError:
        return float("inf")
