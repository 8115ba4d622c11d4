"""Who may what: the API server is asked whether the operator may do what it does, and the user what `still` does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stillhouse.clients.kube.kinds import ACCESS_REVIEW, MONITOR, SCALED_OBJECT, SELF_REVIEW
from stillhouse.entrypoints.findings import Finding, finding
from stillhouse.entrypoints.remote.installed import Installed
from stillhouse.entrypoints.remote.place import Place
from stillhouse.resources.metrics_api import APISERVICE

__all__ = ["EVERYWHERE", "Right", "of_operator", "rights_of_operator", "rights_of_user"]

_AT_ONCE = 16
_OF_CHILDREN = ("create", "delete", "get", "list", "patch", "watch")


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a resource (`deployments` or `distilledmodels/status`), of one object where it has a name."""

    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        where = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {where}{f' {self.name}' if self.name else ''}"


EVERYWHERE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("stillhouse.io", "distilledmodels", ("list", "watch")),
    ("stillhouse.io", "distilledmodels/status", ("patch",)),
    ("stillhouse.io", "distilledmodels/finalizers", ("update",)),
    ("stillhouse.io", "modelrevisions", ("create", "delete", "get", "list", "watch")),
    ("", "serviceaccounts", _OF_CHILDREN),
    ("", "services", _OF_CHILDREN),
    ("apps", "daemonsets", _OF_CHILDREN),
    ("apps", "deployments", _OF_CHILDREN),
    ("rbac.authorization.k8s.io", "rolebindings", _OF_CHILDREN),
    ("discovery.k8s.io", "endpointslices", ("list",)),
    ("autoscaling", "horizontalpodautoscalers", _OF_CHILDREN),
    ("networking.k8s.io", "networkpolicies", _OF_CHILDREN),
    ("policy", "poddisruptionbudgets", _OF_CHILDREN),
    ("monitoring.coreos.com", "servicemonitors", _OF_CHILDREN),
    ("keda.sh", "scaledobjects", _OF_CHILDREN),
    ("batch", "jobs", ("create", "delete", "get", "list", "watch")),
    ("", "pods", ("list", "watch")),
    ("", "persistentvolumeclaims", ("get",)),
    ("", "configmaps", ("list", "watch")),
    ("", "secrets", ("get",)),
    ("events.k8s.io", "events", ("create",)),
)
"""What the chart's role lets the operator do where models are; a test compares the two."""
_OPTIONAL = {"servicemonitors": MONITOR, "scaledobjects": SCALED_OBJECT}

_COMMANDS: tuple[tuple[str, tuple[tuple[str, str, tuple[str, ...]], ...]], ...] = (
    (
        "status",
        (
            ("stillhouse.io", "distilledmodels", ("list",)),
            ("stillhouse.io", "modelrevisions", ("list",)),
            ("batch", "jobs", ("list",)),
            ("apps", "deployments", ("list",)),
        ),
    ),
    ("rollback", (("stillhouse.io", "distilledmodels", ("list", "patch")),)),
    (
        "push",
        (
            ("", "configmaps", ("get", "create", "patch")),
            ("", "pods", ("create", "get", "delete")),
            ("", "pods/exec", ("get", "create")),
        ),
    ),
)


async def of_operator(kube: Any, release: Installed) -> list[Right]:
    """Return what the operator of a release needs where models are."""
    credentials = (release.settings or {}).get("credentials", True)
    unknown = {plural for plural, kind in _OPTIONAL.items() if not await kube.serves(kind)}
    left_out = unknown | (set() if credentials else {"secrets"})
    return [right for right in _each(EVERYWHERE) if right.resource not in left_out]


async def rights_of_operator(kube: Any, release: Installed, upgrade: str) -> list[Finding]:
    """Say what the operator's account may not do; `upgrade` is the command that changes the release.

    Asking needs the right to create SubjectAccessReviews.

    Raises:
        KubeError: the user may not ask that.
    """
    if not release.account:
        return []
    user = f"system:serviceaccount:{release.namespace}:{release.account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{release.namespace}", "system:authenticated"]
    lease = [Right("coordination.k8s.io", "leases", verb, release.lease) for verb in ("get", "patch")]
    asked = [(right, release.watches) for right in await of_operator(kube, release)]
    kind, _, role = str((release.settings or {}).get("gateway_role") or "").partition("/")
    if role:
        asked.append((Right("rbac.authorization.k8s.io", f"{kind.lower()}s", "bind", role), release.watches))
    asked += [(right, release.lease_namespace) for right in [*lease, Right("coordination.k8s.io", "leases", "create")]]
    if not release.watches or release.metrics is not None:
        asked.append((Right("apiregistration.k8s.io", "apiservices", "get", APISERVICE), ""))
    missing = await _refused(kube, asked, ACCESS_REVIEW, {"user": user, "groups": groups})
    title = "operator's rights"
    where = f"in namespace {release.watches}" if release.watches else "in every namespace"
    if not missing:
        return [finding("ok", title, f"{release.account} may do what it must, {where}")]
    fix = f"{upgrade} --set rbac.create=true; where roles are yours to make: charts/stillhouse/templates/rbac.yaml lists them"
    return [finding("failed", title, f"{release.account} may not, {where}: {_listed(missing)}", fix)]


async def rights_of_user(kube: Any, place: Place, release: Installed) -> list[Finding]:
    """Say which commands of `still` the user may not run in a namespace, and which roles let them."""
    namespace = place.namespace
    found = []
    for command, rules in _COMMANDS:
        missing = await _refused(kube, [(right, namespace) for right in _each(rules)], SELF_REVIEW, {})
        if missing:
            ours = release.fullname
            roles = (("clusterrole", "edit"), ("role" if release.watches else "clusterrole", f"{ours}-edit"))
            bind = " && ".join(
                place.kubectl(f"create rolebinding USER-{role} --{kind}={role} --user=USER") for kind, role in roles
            )
            fix = f"ask an administrator for edit and {ours}-edit here (to look alone view and {ours}-view): {bind}"
            found.append(finding("warning", "your rights", f"still {command} fails in {namespace}: {_listed(missing)}", fix))
    return found or [finding("ok", "your rights", f"every command of still can be run in {namespace}")]


def _each(rules: Iterable[tuple[str, str, tuple[str, ...]]]) -> Iterator[Right]:
    for group, resource, verbs in rules:
        for verb in verbs:
            yield Right(group, resource, verb)


async def _refused(kube: Any, asked: list[tuple[Right, str]], kind: Any, who: dict[str, Any]) -> list[Right]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def may(right: Right, namespace: str) -> bool:
        resource, _, below = right.resource.partition("/")
        attributes = {"group": right.group, "resource": resource, "subresource": below, "verb": right.verb, "name": right.name}
        given = {name: value for name, value in {**attributes, "namespace": namespace}.items() if value}
        body = {"apiVersion": kind.api_version, "kind": kind.name, "spec": {**who, "resourceAttributes": given}}
        async with slots:
            return bool(((await kube.create(kind, "", body)).get("status") or {}).get("allowed"))

    answers = await asyncio.gather(*(may(right, namespace) for right, namespace in asked))
    return [right for (right, _), allowed in zip(asked, answers, strict=True) if not allowed]


def _listed(missing: list[Right]) -> str:
    return ", ".join(str(each) for each in missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
