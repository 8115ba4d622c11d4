"""From a ModelRevision, and what the spec of today says of pods, to what is wanted of them. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stillhouse.api.model import DistilledModel, Spec
from stillhouse.api.pods import Placement, PodTemplate
from stillhouse.api.scalars import parse_cpu, parse_quantity
from stillhouse.api.serve import Amounts
from stillhouse.planning.request import from_record, serve_config
from stillhouse.planning.steps import PRECISION
from stillhouse.reconcile.between import middle_of
from stillhouse.reconcile.observed import Body
from stillhouse.resources import quantities
from stillhouse.resources.wanted import Building, Gateway, Serving

__all__ = ["builds_of", "gateway_of", "is_steps", "measured_of", "serving_of"]


def is_steps(revision: Body | None) -> bool:
    """Return whether a record is of steps before another model: there is a gateway for it, and no pods that serve."""
    return revision is not None and revision["spec"].get("precision") == PRECISION


def serving_of(revision: Body, model: DistilledModel | None) -> Serving:
    """Return what pods serve: the settings are those that the gate measured with, requests are the spec's of today."""
    spec: dict[str, Any] = revision["spec"]
    return replace(
        _every_pod(model),
        revision=revision["metadata"]["name"],
        digest=spec["digest"],
        precision=spec["precision"],
        serve=from_record(spec.get("serve") or {}),
        cut=spec.get("cut"),
    )


def gateway_of(asked: Spec, revision: Body) -> Gateway:
    """Return the gateway before a revision; one that was built without the cascade, or cut, that is asked for is for itself."""
    spec: dict[str, Any] = revision["spec"]
    name, cascade, cut = revision["metadata"]["name"], spec.get("cascade"), spec.get("cut")
    return Gateway(asked, name, spec["digest"], spec["precision"], cascade, middle_of(spec), cut)


def measured_of(model: DistilledModel) -> Serving:
    """Return how the gate's pod serves candidates: as the spec of today asks."""
    return replace(_every_pod(model), serve=serve_config(model.spec.serve))


def _every_pod(model: DistilledModel | None) -> Serving:
    """Return what the spec of today says of every pod that serves; None: a spec that cannot be read."""
    cpu, memory = _amounts(model.spec.serve.resources.requests) if model else (None, None)
    return Serving(
        cpu_request=cpu,
        memory_request=memory,
        pods=_pods(model.spec.serve.pod_template) if model else {},
        strategy=model.spec.serve.strategy.type if model else "RollingUpdate",
    )


def builds_of(model: DistilledModel) -> Building:
    """Return what the spec of today says of a build's Jobs."""
    build = model.spec.build
    limits, requests = (_amounts(each) for each in (build.resources.limits, build.resources.requests))
    workers = build.workers if model.spec.distill else 1  # without a student nothing is trained
    return Building(*limits, *requests, placement=_pods(build.placement), queue=build.queue or "", workers=workers)


def _amounts(given: Amounts) -> tuple[str | None, str | None]:
    cpu = quantities.cpu(parse_cpu(given.cpu)) if given.cpu else None
    return cpu, quantities.memory(parse_quantity(given.memory)) if given.memory else None


def _pods(template: PodTemplate | Placement) -> dict[str, Any]:
    """Return the template as it was written: defaults are the API server's, and a default that we own would stay ours."""
    return template.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")
