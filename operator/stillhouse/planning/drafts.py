"""From a spec to steps whose hashes are not known yet. Pure: the same spec and environment give the same steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stillhouse.api.cascade import Cascade
from stillhouse.api.cut import Cut
from stillhouse.api.distill import Distill, Loss, Stage
from stillhouse.api.model import Spec
from stillhouse.api.scalars import parse_percent
from stillhouse.api.source import DataSource, Factory, ModelSource, columns_of
from stillhouse.errors import SpecError
from stillhouse.planning.joining import join
from stillhouse.planning.manifest import LOSSES
from stillhouse.planning.plan import Environment, StepDraft
from stillhouse.planning.request import gate_config, middle_uri, serve_config

__all__ = ["CASCADE", "CUT", "GATE", "INDEX", "draft", "targets"]

TEACHER, DATA, GATE, INDEX = "resolve/source", "resolve/data", "gate/gate", "gate/index"
CASCADE, CUT = "gate/cascade", "gate/cut"
MIDDLE = "resolve/cascade-middle"
SENSITIVITY_SAMPLES = 128
PARITY_SAMPLES = 16
SHARD_ROWS = 2048
CHECKPOINT_STEPS = 50


def draft(spec: Spec, env: Environment) -> list[StepDraft]:
    """Return the steps that the revision (and its index) need, parents first.

    Raises:
        SpecError: a combination that only the sources' contents show, such as an ONNX teacher that is to be distilled.
    """
    return _needed(list(_drafts(spec, env)), targets(spec))


def targets(spec: Spec) -> list[str]:
    """Return the steps whose results are wanted."""
    cascade = spec.edge is not None and spec.edge.cascade is not None
    cut = spec.edge is not None and spec.edge.cut is not None
    return [GATE, *([INDEX] if spec.index else []), *([CASCADE] if cascade else []), *([CUT] if cut else [])]


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
    yield _import_model(TEACHER, source.uri, source, env)
    model_id = TEACHER
    calibration = None
    if spec.distill:
        if env.pins[source.uri].info.get("format") == "onnx":
            raise SpecError(
                "a teacher to distil must be safetensors with config and tokenizer",
                field="spec.source.uri",
                found=source.uri,
                fix="give the model's safetensors folder, or leave out distill to compress the ONNX model as it is",
            )
        yield from _distill(spec.distill, source, env)
        model_id = _last_stage(spec.distill)
        calibration = DATA
    if spec.compress.calibration:
        calibration = "resolve/calibration"
        yield _import_data(calibration, spec.compress.calibration, source, env)
    candidates: list[str] = []
    for draft, is_candidate in _compress(spec, model_id, calibration, env):
        yield draft
        if is_candidate:
            candidates.append(draft.id)
    order = {"auto": ("int8", "int8-mixed", "fp32"), "int8": ("int8",), "fp32": ("fp32",)}[spec.compress.precision]
    ladder = [cid for rung in order for cid in candidates if cid == f"compress/{rung}"]
    served = ladder
    if spec.pipeline and spec.pipeline.placement == "together":
        with_steps = list(join(spec.pipeline, ladder, TEACHER, env, distilled=spec.distill is not None))
        served = [each.id for each in with_steps if each.pass_name == "join-steps"]
        yield from with_steps
    yield from _gate(spec, ladder, served, calibration, env)
    if spec.index:
        yield _import_data("resolve/index-data", spec.index.data, source, env)
        yield StepDraft(INDEX, "gate", "index", {}, {"model": GATE, "data": "resolve/index-data"})
    if spec.edge and spec.edge.cascade:
        yield from _cascade(spec.edge.cascade, spec, any(each == "compress/fp32" for each in candidates), env)
    if spec.edge and spec.edge.cut:
        yield _cut(spec.edge.cut)


def _import_model(step_id: str, uri: str, source: ModelSource, env: Environment) -> StepDraft:
    image = None
    if source.image:
        channels = source.image.channels
        image = {
            "height": source.image.height,
            "width": source.image.width,
            "channels": channels,
            "mean": [float(value) for value in source.image.mean] or [0.0] * channels,
            "std": [float(value) for value in source.image.std] or [1.0] * channels,
        }
    config = {
        "digest": env.pins[uri].digest,
        "task": source.task,
        "maxLength": source.max_length,
        "labels": list(source.labels) or None,
        "image": image,
        "factory": _factory(source.factory, env),
    }
    return StepDraft(step_id, "resolve", "import-model", config, uri=uri)


def _factory(factory: Factory | None, env: Environment) -> dict[str, Any] | None:
    """Return a factory with the digest of the file that it lies in, so that a changed function is another step."""
    if factory is None:
        return None
    pin = env.pins.get(f"factory:{factory.target}")
    return {
        "target": factory.target,
        "arguments": dict(factory.arguments),
        "digest": pin.digest if pin else "",
    }


def _import_data(step_id: str, data: DataSource, source: ModelSource, env: Environment) -> StepDraft:
    config = {
        "digest": env.pins[data.uri].digest,
        "columns": columns_of(data),
        "maxRows": data.max_rows,
    }
    return StepDraft(step_id, "resolve", "import-data", config, uri=data.uri)


def _stage_id(stage: Stage, position: int) -> str:
    return f"train/{stage.name or f'stage-{position + 1}'}"


def _last_stage(distill: Distill) -> str:
    return _stage_id(distill.stages[-1], len(distill.stages) - 1)


def _loss(loss: Loss) -> dict[str, Any]:
    return {
        "kind": loss.kind,
        "weight": float(loss.weight),
        "distance": loss.distance,
        "temperature": float(loss.temperature or LOSSES[loss.kind].temperature),
        "alpha": float(loss.alpha),
        "layer": loss.layer,
        "keys": loss.keys or 0,
    }


def _reads(losses: Iterable[Loss]) -> list[str]:
    """Return which of the teacher's outputs these losses learn from, in the order that is part of the step's key."""
    return sorted({reads for loss in losses if (reads := LOSSES[loss.kind].reads)})


def _distill(distill: Distill, source: ModelSource, env: Environment) -> Iterator[StepDraft]:
    names = [_stage_id(stage, position) for position, stage in enumerate(distill.stages)]
    if len(set(names)) != len(names) or {"train/student", "train/teacher-outputs"} & set(names):
        raise SpecError(
            "stages need names of their own", field="spec.distill.stages", found=", ".join(n.partition("/")[2] for n in names)
        )
    yield _import_data(DATA, distill.data, source, env)
    if distill.validation:
        yield _import_data("resolve/validation", distill.validation, source, env)
    max_length = distill.max_length or source.max_length
    losses = [loss for stage in distill.stages for loss in stage.losses]
    outputs = _reads(losses)
    if outputs:
        config: dict[str, Any] = {
            "outputs": outputs,
            "maxLength": max_length,
            # Only the teacher knows how many layers it has: -1 is its last.
            "layers": sorted({-1 if loss.layer is None else loss.layer for loss in losses if loss.kind == "hidden"}),
            "shardRows": SHARD_ROWS,
        }
        yield StepDraft("train/teacher-outputs", "train", "teacher-outputs", config, {"teacher": TEACHER, "data": DATA})
    student = distill.student
    if student.uri:
        yield _import_model("train/student", student.uri, source.model_copy(update={"factory": None}), env)
    else:
        architecture = _architecture(distill, source)
        config = {
            "architecture": architecture,
            "hiddenLayers": student.hidden_layers,
            "hiddenSize": student.hidden_size,
            "intermediateSize": student.intermediate_size,
            "attentionHeads": student.attention_heads,
            "init": student.init or _default_init(distill, source),
            "vocabularySize": student.vocabulary.max_size if student.vocabulary else None,
            "maxLength": max_length,
            "factory": _factory(student.factory, env),
            "seed": distill.seed,
        }
        parents = {"teacher": TEACHER, "data": DATA}
        if architecture == "residual" and "embedding" in outputs:
            parents["outputs"] = "train/teacher-outputs"  # what its token vectors are fitted to
        yield StepDraft("train/student", "train", "student", config, parents)
    previous = "train/student"
    for position, stage in enumerate(distill.stages):
        config = {
            "stage": names[position].partition("/")[2],
            "losses": [_loss(loss) for loss in stage.losses],
            "epochs": stage.epochs,
            "batchSize": stage.batch_size,
            "learningRate": float(stage.learning_rate),
            "embeddingLearningRate": float(stage.embedding_learning_rate) if stage.embedding_learning_rate else None,
            "warmup": parse_percent(stage.warmup),
            "weightDecay": float(stage.weight_decay),
            "maxLength": max_length,
            "checkpointSteps": CHECKPOINT_STEPS,
            "seed": distill.seed + position,
        }
        parents = {"teacher": TEACHER, "student": previous, "data": DATA}
        if _reads(stage.losses):
            parents["outputs"] = "train/teacher-outputs"
        if distill.validation:
            parents["validation"] = "resolve/validation"
        yield StepDraft(names[position], "train", "distill", config, parents)
        previous = names[position]


def _default_init(distill: Distill, source: ModelSource) -> str:
    if distill.student.factory:
        return "random"
    if distill.student.architecture == "residual":
        return "static"
    if distill.student.hidden_size is None:
        return "layers"
    return "static" if source.task == "sentence-embedding" else "svd"


def _architecture(distill: Distill, source: ModelSource) -> str:
    """Return the student's architecture: where static token vectors are its beginning, the one that keeps their weights."""
    student = distill.student
    if student.architecture or student.factory:
        return student.architecture or "encoder"
    static = (student.init or _default_init(distill, source)) == "static"
    return "residual" if static and source.task == "sentence-embedding" else "encoder"


def _compress(spec: Spec, model_id: str, calibration: str | None, env: Environment) -> Iterator[tuple[StepDraft, bool]]:
    """Yield (draft, whether it makes a candidate)."""
    precision = spec.compress.precision
    fp32 = "compress/fp32"
    onnx_source = model_id == TEACHER and env.pins[spec.source.uri].info.get("format") == "onnx"
    config: dict[str, Any] = {"opset": 17, "samples": PARITY_SAMPLES, "threads": 1}
    if onnx_source:
        fp32 = TEACHER
        if precision != "int8":
            raise SpecError(
                "an ONNX source can be compressed to int8 in this version",
                field="spec.compress.precision",
                found=precision,
                allowed="int8",
                fix="write precision: int8, or give the model as safetensors",
            )
    else:
        yield StepDraft(fp32, "compress", "export", config, {"model": model_id}), True
    if precision == "fp32":
        return
    quantize: dict[str, Any] = {"perChannel": True, "reduceRange": env.reduce_range, "exclude": 0}
    yield StepDraft("compress/int8", "compress", "quantize-dynamic", quantize, {"model": fp32}), True
    if precision == "int8" or calibration is None:
        return
    rows = {
        "samples": SENSITIVITY_SAMPLES,
        "top": max(spec.compress.keep_fp32, 8),
        "reduceRange": env.reduce_range,
        "threads": 1,
    }
    yield StepDraft("compress/sensitivity", "compress", "sensitivity", rows, {"model": fp32, "data": calibration}), False
    parents = {"model": fp32, "sensitivity": "compress/sensitivity"}
    mixed = {**quantize, "exclude": spec.compress.keep_fp32}
    yield StepDraft("compress/int8-mixed", "compress", "quantize-dynamic", mixed, parents), True


def _gate(spec: Spec, ladder: list[str], served: list[str], calibration: str | None, env: Environment) -> Iterator[StepDraft]:
    """Draft the gate. `ladder`: what the candidates are called, `served`: the steps whose results are served for them."""
    parents = {f"candidate-{position}": step_id for position, step_id in enumerate(served)}
    config: dict[str, Any] = {
        "task": spec.source.task,
        "candidates": [step_id.partition("/")[2] for step_id in ladder],
        "serve": serve_config(spec.serve),
        "runtime": spec.serve.runtime,
        "cpus": env.cpus,
        **gate_config(spec.gate),
    }
    if spec.gate:
        yield _import_data("resolve/gate-data", spec.gate.data, spec.source, env)
        parents["data"] = "resolve/gate-data"
        if spec.gate.metrics:
            yield _reference("gate/teacher-reference", "resolve/gate-data", spec, env)
            parents["reference"] = "gate/teacher-reference"
        if spec.distill:
            parents["training"] = DATA
        if calibration and calibration != DATA:
            parents["calibration"] = calibration
    yield StepDraft(GATE, "gate", "gate", config, parents)


def _reference(step_id: str, data: str, spec: Spec, env: Environment) -> StepDraft:
    """Draft what the source says of some rows."""
    onnx = env.pins[spec.source.uri].info.get("format") == "onnx"
    name = "onnx-teacher-reference" if onnx else "teacher-reference"
    config = {"maxLength": spec.source.max_length, "threads": 1}
    return StepDraft(step_id, "gate", name, config, {"teacher": TEACHER, "data": data})


def _cascade(cascade: Cascade, spec: Spec, quantized: bool, env: Environment) -> Iterator[StepDraft]:
    aim = "targetAgreement" if cascade.target_agreement else "escalationBudget"
    config = {
        "aim": aim,
        "value": parse_percent(cascade.target_agreement or cascade.escalation_budget or ""),
        "method": cascade.method,
        "judgedBy": cascade.judged_by,
        "neighbors": cascade.neighbors,
        "keep": parse_percent(cascade.outliers.keep) if cascade.outliers else None,
        "cost": float(cascade.cost),
    }
    parents = {"model": GATE}
    for role, data in (("threshold", cascade.data), ("calibration", cascade.calibration), ("test", cascade.test)):
        if data is not None:
            yield _import_data(f"resolve/cascade-{role}", data, spec.source, env)
            yield _reference(f"gate/larger-{role}", f"resolve/cascade-{role}", spec, env)
            parents |= {role: f"resolve/cascade-{role}", f"larger-{role}": f"gate/larger-{role}"}
    if spec.index:
        yield _reference("gate/larger-index", "resolve/index-data", spec, env)
        parents |= {"index": INDEX, "larger-index": "gate/larger-index"}
    if quantized and spec.source.task != "sentence-embedding":  # the index is of what serves, and no other model fits it
        parents["fp32"] = "compress/fp32"
    if cascade.middle:
        uri = middle_uri(cascade.middle.model)
        known = env.pins.get(uri)  # on paper a name stands for what was built of it
        yield StepDraft(MIDDLE, "resolve", "import-revision", {"digest": known.digest if known else uri}, uri=uri)
        parents["middle"] = MIDDLE
        config |= {"middle": cascade.middle.model, "middleCost": float(cascade.middle.cost)}
    if spec.distill:
        parents["training"] = DATA
    if spec.gate:
        parents["gate"] = "resolve/gate-data"
    yield StepDraft(CASCADE, "gate", "cascade", config, parents)


def _cut(cut: Cut) -> StepDraft:
    """Draft the cut of what the gate let through, held against it on the gate's rows."""
    config = {
        "at": [cut.layer],
        "encoding": "" if cut.encoding == "none" else cut.encoding,
        "maxDifference": float(cut.max_difference),
    }
    return StepDraft(CUT, "gate", "cut", config, {"model": GATE, "data": "resolve/gate-data"})
