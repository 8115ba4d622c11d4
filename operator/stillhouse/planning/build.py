"""From a spec to a plan. Pure: the same spec and environment give the same plan."""

from __future__ import annotations

from collections.abc import Mapping

from stillhouse.api.model import DistilledModel
from stillhouse.digests import content_hash
from stillhouse.planning.drafts import draft, targets
from stillhouse.planning.gating import GATE
from stillhouse.planning.plan import Environment, Pin, Plan, seal
from stillhouse.planning.request import middle_uri, uris
from stillhouse.planning.static import asked
from stillhouse.planning.steps import steps_of

__all__ = ["build_plan", "request_hash"]


_HELD = {(GATE, "validation")}
"""Rows that the gate only holds against its own. They are asked for by the stages, so a request is the same without."""

_ALONE = (
    "spec.edge.preprocess: what is built are the steps, with what they read of the source; no model is (distill, compress, gate,"
    " index and export of this file count for nothing)"
)


def build_plan(model: DistilledModel, env: Environment, bound: Mapping[str, str] | None = None) -> Plan:
    """Return the plan of a model. `bound` maps the spec's URIs to what they are bound to here (for the request hash).

    Raises:
        SpecError: a combination that only the sources' contents show, such as an ONNX teacher that is to be distilled.
    """
    spec = model.spec
    drafts = draft(spec, env)
    notes = []
    if steps_of(spec) is not None:
        notes.append(_ALONE)
    elif spec.compress.precision == "auto" and not any(each.id == "compress/sensitivity" for each in drafts):
        notes.append("no calibration data: the ladder has no rung without the most sensitive operators")
        if asked(spec) is not None:
            notes.append("no calibration data: INT8 with static ranges is not tried")
    if spec.gate is None and steps_of(spec) is None:
        notes.append("no gate: the first candidate that starts will serve, unmeasured")
    if spec.serve.queue.max_size or spec.serve.queue.timeout:
        notes.append("serve.queue: on Triton 2.51 a queue policy holds requests back for half a second now and then")
    if spec.pipeline and spec.pipeline.placement == "apart":
        notes.append("the pipeline's steps are apart: the gateway joins them, this model's own server answers without them")
    if spec.serve.mqtt:
        notes.append("serve.mqtt: in a cluster the operator runs this bridge; on one machine you start it (docs/mqtt.md)")
    return Plan(
        name=model.metadata.name,
        # Imports need nothing and come first: what is wrong with any data is told before the training, not after it.
        steps=seal(sorted(drafts, key=lambda each: each.stage != "resolve"), env),
        targets=tuple(targets(spec)),
        request_hash=request_hash(model, bound or {}, env.rebuild),
        file_hash=request_hash(model, {}),
        notes=tuple(notes),
    )


def request_hash(model: DistilledModel, bound: Mapping[str, str], rebuild: str = "") -> str:
    """Return the hash of what was asked for: it needs no data, so an operator can compute it.

    It is over the steps as they are planned on paper, where every URI stands for its own contents: units, numbers and
    defaults are plain there, so that two ways to say the same ("1s" and "1000ms", a default left out and written) are
    one request. `bound` maps the spec's URIs, and the model between of a cascade, to what they are bound to here.
    """
    cascade = model.spec.edge.cascade if model.spec.edge else None
    named = [*uris(model.spec).values(), *([middle_uri(cascade.middle.model)] if cascade and cascade.middle else [])]
    paper = Environment(pins={uri: Pin(bound.get(uri, uri)) for uri in named})
    steps = [
        [each.id, each.pass_name, each.config, {role: of for role, of in each.parents.items() if (each.id, role) not in _HELD}]
        for each in draft(model.spec, paper)
    ]
    # Who adds a Secret to a model that could not be fetched asks for another attempt. What is cached stays so.
    secrets = [[each.secret, each.for_] for each in model.spec.credentials]
    return content_hash({"steps": steps, "rebuild": rebuild, **({"credentials": secrets} if secrets else {})})
