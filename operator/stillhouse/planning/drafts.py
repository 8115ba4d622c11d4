"""From a spec to steps whose hashes are not known yet. Pure: the same spec and environment give the same steps."""

from __future__ import annotations

from collections.abc import Iterator

from stillhouse.api.model import Spec
from stillhouse.errors import SpecError
from stillhouse.planning import aware, compressing, edge, gating, preparing, teaching, training
from stillhouse.planning.edge import CASCADE, CUT
from stillhouse.planning.exports import export_id, exports
from stillhouse.planning.gating import GATE, INDEX
from stillhouse.planning.imports import TEACHER, import_data, import_model
from stillhouse.planning.joining import join
from stillhouse.planning.plan import Environment, StepDraft
from stillhouse.planning.steps import STEPS, pack, steps_of

__all__ = ["draft", "targets"]


def draft(spec: Spec, env: Environment) -> list[StepDraft]:
    """Return the steps that the revision (and its index) need, parents first.

    Raises:
        SpecError: a combination that only the sources' contents show, such as an ONNX teacher that is to be distilled.
    """
    alone = steps_of(spec)
    if alone is not None:
        return [pack(alone, spec.source.uri, env)]
    # What deduplicates or reports reads data that others import after it: the first draft of a step stands.
    once: dict[str, StepDraft] = {}
    for each in _drafts(spec, env):
        once.setdefault(each.id, teaching.tuned(each) if spec.source.fine_tune else each)
    return _needed(list(once.values()), targets(spec))


def targets(spec: Spec) -> list[str]:
    """Return the steps whose results are wanted."""
    if steps_of(spec) is not None:
        return [STEPS]
    cascade = spec.edge is not None and spec.edge.cascade is not None
    cut = spec.edge is not None and spec.edge.cut is not None
    told = [preparing.REPORT] if spec.distill and preparing.reported(spec.distill) else []
    others = [export_id(each.format) for each in spec.export]
    return [GATE, *told, *([INDEX] if spec.index else []), *([CASCADE] if cascade else []), *([CUT] if cut else []), *others]


def _needed(drafts: list[StepDraft], targets: list[str]) -> list[StepDraft]:
    """Return the steps that the targets depend on: calibration data, for one, is read by some precisions only."""
    parents = {draft.id: draft.parents.values() for draft in drafts}
    wanted: set[str] = set()
    stack = list(targets)
    while stack:
        step_id = stack.pop()
        if step_id not in wanted:
            wanted.add(step_id)
            stack.extend(parents[step_id])
    return [draft for draft in drafts if draft.id in wanted]


def _drafts(spec: Spec, env: Environment) -> Iterator[StepDraft]:
    source = spec.source
    encoder = {"task": "sentence-embedding", "labels": ()} if source.fine_tune else {}
    yield import_model(TEACHER, source.uri, source.model_copy(update=encoder), env)
    model_id = TEACHER
    calibration = None
    lesson = None
    if spec.distill:
        # What an ONNX graph says of numbers is all that their student needs; of texts also its tokens and their vectors.
        if source.features is None and env.pins[source.uri].info.get("format") == "onnx":
            raise SpecError(
                "a teacher to distil must be safetensors with config and tokenizer",
                field="spec.source.uri",
                found=source.uri,
                fix="give the model's safetensors folder, or leave out distill to compress the ONNX model as it is",
            )
        yield from preparing.prepare(spec, env)
        yield from preparing.report(spec, env)
    yield from teaching.fine_tune(source, env)
    if spec.distill:
        quantize = None if spec.compress.precision in ("fp32", "fp16", "bf16") else compressing.int8(spec, env)
        model_id = training.last_stage(spec.distill)
        for each in training.distillation(spec.distill, source, env, quantize):
            lesson = each if each.id == model_id else lesson
            yield each
        calibration = preparing.clean(spec.distill)
    if spec.compress.calibration:
        calibration = "resolve/calibration"
        yield import_data(calibration, spec.compress.calibration, source, env)
    if lesson is not None and calibration is not None:
        yield from aware.learning(spec, lesson, calibration, env)
    candidates: list[str] = []
    for draft, is_candidate in compressing.candidates(spec, model_id, calibration, env):
        yield draft
        if is_candidate:
            candidates.append(draft.id)
    ladder = [cid for rung in compressing.ladder(spec.compress.precision) for cid in candidates if cid == f"compress/{rung}"]
    served = ladder
    if spec.pipeline and spec.pipeline.placement == "together":
        with_steps = list(join(spec.pipeline, ladder, TEACHER, env, distilled=spec.distill is not None))
        served = [each.id for each in with_steps if each.pass_name == "join-steps"]
        yield from with_steps
    yield from gating.gate(spec, ladder, served, calibration, env)
    if spec.index:
        yield import_data("resolve/index-data", spec.index.data, source, env)
        yield StepDraft(INDEX, "gate", "index", {}, {"model": GATE, "data": "resolve/index-data"})
    if spec.edge and spec.edge.cascade:
        yield from edge.cascade(spec.edge.cascade, spec, any(each == "compress/fp32" for each in candidates), env)
    if spec.edge and spec.edge.cut:
        yield edge.cut(spec.edge.cut)
    if spec.export:
        onnx_source = not any(each == "compress/fp32" for each in candidates)
        network, graph = (None, TEACHER) if onnx_source else (model_id, "compress/fp32")
        yield from exports(spec.export, graph, network, "resolve/gate-data" if spec.gate else None)
