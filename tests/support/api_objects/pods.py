"""`serve.podTemplate`: what a user may say of the serving pods."""

from __future__ import annotations

from tests.support.api_objects.case import Case, bad

__all__ = ["INVALID", "VALID"]

_POD = "spec.serve.podTemplate"
_NODES = f"{_POD}.spec.affinity.nodeAffinity"

VALID: tuple[Case, ...] = (
    Case("every taint tolerated", "text", {f"{_POD}.spec.tolerations": [{"operator": "Exists"}]}),
    Case("an annotation of a tool", "text", {f"{_POD}.metadata.annotations": {"sidecar.istio.io/inject": "true"}}),
    Case("a label of Kubernetes that is not ours", "text", {f"{_POD}.metadata.labels": {"app.kubernetes.io/part-of": "search"}}),
)

INVALID: tuple[Case, ...] = (
    *(
        Case(
            f"our own label {key}", "text", {f"{_POD}.metadata.labels": {key: "x"}}, f"{_POD}.metadata.labels", "Stillhouse's own"
        )
        for key in ("stillhouse.io/model", "app.kubernetes.io/component", "app.kubernetes.io/name", "pod-template-hash")
    ),
    Case(
        "our own annotation",
        "text",
        {f"{_POD}.metadata.annotations": {"stillhouse.io/digest": "x"}},
        f"{_POD}.metadata.annotations",
        "Stillhouse's own",
    ),
    *(
        Case(f"a malformed key of {place}", "text", {f"{_POD}.{place}": {"a b": "x"}}, f"{_POD}.{place}", "not one of Kubernetes")
        for place in ("metadata.labels", "metadata.annotations", "spec.nodeSelector")
    ),
    Case("a label with a space in it", "text", {f"{_POD}.metadata.labels": {"a": "b c"}}, f"{_POD}.metadata.labels"),
    *(
        bad(f"{name} of a pod", "text", f"{_POD}.spec.{name}", value)
        for name, value in {
            "containers": [{"name": "mine"}],
            "volumes": [],
            "securityContext": {},
            "serviceAccountName": "admin",
            "hostNetwork": True,
        }.items()
    ),
    bad("a toleration with a value too many", "text", f"{_POD}.spec.tolerations[1].value", "x", "has no value"),
    Case(
        "a toleration of nothing",
        "text",
        {f"{_POD}.spec.tolerations": [{"value": "x"}]},
        f"{_POD}.spec.tolerations[0].operator",
        "needs operator Exists",
    ),
    bad("seconds of a taint that evicts nobody", "text", f"{_POD}.spec.tolerations[1].tolerationSeconds", 3, "NoExecute"),
    Case(
        "nothing to be in",
        "text",
        {f"{_NODES}.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values": []},
        f"{_NODES}.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values",
        "Gt and Lt one",
    ),
    Case(
        "an order of pods' labels",
        "text",
        {
            f"{_POD}.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector": {
                "matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]
            }
        },
        f"{_POD}.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions",
        "labels of nodes only",
    ),
    Case(
        "fewest domains of a wish",
        "text",
        {f"{_POD}.spec.topologySpreadConstraints[0].whenUnsatisfiable": "ScheduleAnyway"},
        f"{_POD}.spec.topologySpreadConstraints[0].minDomains",
        "belongs to DoNotSchedule",
    ),
)
