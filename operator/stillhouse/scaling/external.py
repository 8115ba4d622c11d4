"""The documents of `external.metrics.k8s.io/v1beta1`: discovery, values, refusals. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stillhouse.errors import UsageError
from stillhouse.resources import labels
from stillhouse.resources.metrics_api import GROUP, VERSION, WANTED
from stillhouse.scaling.signals import Signals
from stillhouse.scaling.targets import Key
from stillhouse.scaling.wanted import Aim, Room, cpu_use, wanted

__all__ = [
    "METRICS", "Value", "figures", "group", "group_list", "items", "openapi_v2",
    "quantity", "refusal", "resources", "selects", "value_list",
]  # fmt: skip


METRICS: Mapping[str, str] = {
    WANTED: "replicas that a model wants, with a fraction",
    "stillhouse_pending_requests": "requests that wait, over all pods",
    "stillhouse_queue_seconds": "mean wait of a request",
    "stillhouse_arrival_rate": "requests a second",
    "stillhouse_compute_use": "share of the instances that is busy, 0 to 1",
    "stillhouse_cpu_use": "share of the pods' CPU limits that is used, 0 to 1",
}
"""Every metric that is served, one value for each model that has one."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one model."""

    namespace: str
    model: str
    value: float


def figures(found: Mapping[Key, tuple[Signals, Room]], aim: Aim) -> dict[str, list[Value]]:
    """Return the values of every metric. A model without one is left out: an autoscaler then holds what it has."""
    result: dict[str, list[Value]] = {name: [] for name in METRICS}
    for (namespace, model), (signals, room) in found.items():
        values = {
            WANTED: wanted(signals, room, aim),
            "stillhouse_pending_requests": signals.pending,
            "stillhouse_queue_seconds": signals.queue_s,
            "stillhouse_arrival_rate": signals.arrival_rate,
            "stillhouse_compute_use": signals.use,
            "stillhouse_cpu_use": cpu_use(signals, room),
        }
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                result[name].append(Value(namespace, model, value))
    return result


def quantity(value: float) -> str:
    """Return a number as a quantity in thousandths, rounded up: what is above zero does not become zero."""
    thousandths = math.ceil(round(value * 1000, 6))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def items(values: Iterable[Value], metric: str, namespace: str, selector: str, moment: str) -> list[dict[str, Any]]:
    """Return `ExternalMetricValue`s of a namespace that a label selector chooses. `moment`: RFC 3339.

    Raises:
        UsageError: the selector cannot be read.
    """
    chosen = selects(selector)
    return [
        {
            "metricName": metric,
            "metricLabels": marks,
            "timestamp": moment,
            "value": quantity(each.value),
        }
        for each in values
        if each.namespace == namespace and chosen(marks := {labels.MODEL: each.model})
    ]


_NAME = r"[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?"
_SET = re.compile(rf"\s*({_NAME})\s+(in|notin)\s*\(([^()]*)\)\s*(?:,|$)")
_EQUAL = re.compile(rf"\s*({_NAME})\s*(==|=|!=)\s*([A-Za-z0-9_.-]*)\s*(?:,|$)")
_THERE = re.compile(rf"\s*(!?)\s*({_NAME})\s*(?:,|$)")
_LONGEST = 4096


def selects(selector: str) -> Callable[[Mapping[str, str]], bool]:
    """Return whether labels are chosen by a label selector, as a function.

    Raises:
        UsageError: it cannot be read.
    """
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    rest = selector
    if len(selector) > _LONGEST:
        raise UsageError("the label selector is too long", field="labelSelector", found=f"{len(selector)} characters")
    while rest.strip():
        if match := _SET.match(rest):
            values = {each.strip() for each in match[4].split(",")}
            tests.append(_among(match[1], values, match[3] == "in"))
        elif match := _EQUAL.match(rest):
            tests.append(_among(match[1], {match[4]}, match[3] != "!="))
        elif match := _THERE.match(rest):
            tests.append(_present(match[2], not match[1]))
        else:
            raise UsageError("the label selector cannot be read", field="labelSelector", found=rest[:100])
        rest = rest[match.end() :]
    return lambda marks: all(test(marks) for test in tests)


def _among(name: str, values: set[str], wanted: bool) -> Callable[[Mapping[str, str]], bool]:
    return lambda marks: (marks.get(name) in values) is wanted


def _present(name: str, wanted: bool) -> Callable[[Mapping[str, str]], bool]:
    return lambda marks: (name in marks) is wanted


def value_list(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an `ExternalMetricValueList`."""
    return {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": found}


def group() -> dict[str, Any]:
    """Return the `APIGroup`."""
    version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version}


def group_list() -> dict[str, Any]:
    """Return the `APIGroupList`."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]}


def resources() -> dict[str, Any]:
    """Return the `APIResourceList`. `get` alone: what cannot be deleted does not keep a namespace from ending."""
    found = [
        {"name": name, "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList", "verbs": ["get"]}
        for name in METRICS
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": found}


def openapi_v2() -> dict[str, Any]:
    """Return an empty OpenAPI document: the aggregator asks every API for one, and logs an error where there is none."""
    return {"swagger": "2.0", "info": {"title": "stillhouse external metrics", "version": VERSION}, "paths": {}}


def refusal(code: int, reason: str, message: str) -> dict[str, Any]:
    """Return a `Status`."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
