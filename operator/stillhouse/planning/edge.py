"""What the edge gets of what the gate let through, as steps: a cascade, a cut."""

from __future__ import annotations

from collections.abc import Iterator

from stillhouse.api.cascade import Cascade
from stillhouse.api.cut import Cut
from stillhouse.api.model import Spec
from stillhouse.api.scalars import parse_percent
from stillhouse.planning.gating import GATE, INDEX, reference
from stillhouse.planning.imports import import_data
from stillhouse.planning.plan import Environment, StepDraft
from stillhouse.planning.preparing import judged
from stillhouse.planning.request import middle_uri
from stillhouse.planning.teaching import tuned_on

__all__ = ["CASCADE", "CUT", "MIDDLE", "cascade", "cut"]

CASCADE, CUT = "gate/cascade", "gate/cut"
MIDDLE = "resolve/cascade-middle"


def cascade(given: Cascade, spec: Spec, quantized: bool, env: Environment) -> Iterator[StepDraft]:
    """Draft what a cascade is solved on. `quantized`: the model has an fp32 form beside."""
    aim = "targetAgreement" if given.target_agreement else "escalationBudget"
    config = {
        "aim": aim,
        "value": parse_percent(given.target_agreement or given.escalation_budget or ""),
        "method": given.method,
        "judgedBy": given.judged_by,
        "neighbors": given.neighbors,
        "keep": parse_percent(given.outliers.keep) if given.outliers else None,
        "cost": float(given.cost),
    }
    parents = {"model": GATE}
    for role, data in (("threshold", given.data), ("calibration", given.calibration), ("test", given.test)):
        if data is not None:
            yield import_data(f"resolve/cascade-{role}", data, spec.source, env)
            yield reference(f"gate/larger-{role}", f"resolve/cascade-{role}", spec, env)
            parents |= {role: f"resolve/cascade-{role}", f"larger-{role}": f"gate/larger-{role}"}
    if spec.index:
        yield reference("gate/larger-index", "resolve/index-data", spec, env)
        parents |= {"index": INDEX, "larger-index": "gate/larger-index"}
    if quantized and spec.source.task != "sentence-embedding":  # the index is of what serves, and no other model fits it
        parents["fp32"] = "compress/fp32"
    if given.middle:
        uri = middle_uri(given.middle.model)
        known = env.pins.get(uri)  # on paper a name stands for what was built of it
        yield StepDraft(MIDDLE, "resolve", "import-revision", {"digest": known.digest if known else uri}, uri=uri)
        parents["middle"] = MIDDLE
        config |= {"middle": given.middle.model, "middleCost": float(given.middle.cost)}
    if spec.distill:
        parents |= judged(spec.distill)
    parents |= {role: step_id for role, step_id in tuned_on(spec.source).items() if role == "tuning"}
    if spec.gate:
        parents["gate"] = "resolve/gate-data"
    yield StepDraft(CASCADE, "gate", "cascade", config, parents)


def cut(given: Cut) -> StepDraft:
    """Draft the cut of what the gate let through, held against it on the gate's rows."""
    config = {
        "at": [given.layer],
        "encoding": "" if given.encoding == "none" else given.encoding,
        "maxDifference": float(given.max_difference),
    }
    return StepDraft(CUT, "gate", "cut", config, {"model": GATE, "data": "resolve/gate-data"})
