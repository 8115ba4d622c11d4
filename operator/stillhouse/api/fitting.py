"""What the parts of a spec demand of each other: each rule as the API server reads it (CEL), and as Python does.

A rule within one part stands with that part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stillhouse.api.base import CelRule
from stillhouse.api.fitting_compress import COMPRESS_RULES, compress_fits
from stillhouse.api.fitting_losses import LOSSES_FIT_TASK, losses_fit
from stillhouse.api.fitting_student import STUDENT_RULES, student_fits
from stillhouse.api.pipeline import GIVEN, SAID
from stillhouse.api.source import TEXT_TASKS

if TYPE_CHECKING:
    from stillhouse.api.distill import Distill
    from stillhouse.api.model import Spec
    from stillhouse.api.teachers import Assistant

__all__ = ["RULES", "parts_fit"]

TEXT_METRICS = ("mrr@", "cosine", "neighbour-overlap@")
CLASS_METRICS = ("agreement", "accuracy", "macro-f1", "log-loss", "per-class-loss")

_INDEX_BELONGS = CelRule(
    "!has(self.index) || self.source.task == 'sentence-embedding'", "index belongs to task sentence-embedding only", "index"
)
_NO_RETRIEVAL_METRICS = CelRule(
    "!has(self.gate) || self.source.task == 'sentence-embedding' || self.gate.metrics.all(m,"
    " !(m.name.startsWith('mrr@') || m.name == 'cosine' || m.name.startsWith('neighbour-overlap@')))",
    "mrr@k, cosine and neighbour-overlap@k belong to task sentence-embedding",
    "gate.metrics",
)
_NO_CLASS_METRICS = CelRule(
    "!has(self.gate) || self.source.task != 'sentence-embedding' || self.gate.metrics.all(m,"
    " has(m.output) || !(m.name in ['agreement', 'accuracy', 'macro-f1', 'log-loss', 'per-class-loss']))",
    "agreement, accuracy, macro-f1, log-loss and per-class-loss belong to classification tasks",
    "gate.metrics",
)
_LOGITS_ARE_OF_CLASSES = CelRule(
    "!has(self.distill) || !has(self.distill.topLogits) || self.source.task != 'sentence-embedding'",
    "topLogits belongs to classification tasks",
    "distill.topLogits",
)
_WEIGHTING_OF_CLASSES = CelRule(
    "!has(self.distill) || !has(self.distill.weighting) || self.distill.weighting == 'fixed'"
    " || self.source.task != 'sentence-embedding'",
    "teachers of embeddings count by fixed weights: an embedding does not say how sure it is",
    "distill.weighting",
)
_RESIDUAL_EMBEDS = CelRule(
    "!has(self.distill) || self.source.task == 'sentence-embedding'"
    " || (!has(self.distill.student.architecture) || self.distill.student.architecture != 'residual')"
    " && (!has(self.distill.assistants) || self.distill.assistants.all(a, !has(a.student.architecture)"
    " || a.student.architecture != 'residual'))",
    "architecture: residual belongs to task sentence-embedding only",
    "distill.student.architecture",
)
_GATE_FITS_QUEUE = CelRule(
    "!has(self.gate) || self.serve.queue.maxSize == 0 || self.serve.queue.maxSize >= self.gate.load.concurrency",
    "serve.queue.maxSize must be 0 or at least gate.load.concurrency: the gate's own clients would be refused",
    "serve.queue.maxSize",
)
_SEARCH_NEEDS_INDEX = CelRule(
    "!has(self.edge) || !has(self.edge.cascade) || self.source.task != 'sentence-embedding' || has(self.index)",
    "a cascade of sentence-embedding needs index: what two models find can be compared, their embeddings cannot",
    "index",
)
_LOGITS_OF_CLASSES = CelRule(
    "!has(self.edge) || !has(self.edge.cascade) || self.edge.cascade.method != 'temperature'"
    " || self.source.task != 'sentence-embedding'",
    "method temperature belongs to classification tasks",
    "edge.cascade.method",
)
_OUTLIERS_OF_SEARCH = CelRule(
    "!has(self.edge) || !has(self.edge.cascade) || !has(self.edge.cascade.outliers) || self.source.task == 'sentence-embedding'",
    "outliers belongs to task sentence-embedding only",
    "edge.cascade.outliers",
)
_MIDDLE_OF_CLASSES = CelRule(
    "!has(self.edge) || !has(self.edge.cascade) || !has(self.edge.cascade.middle) || self.source.task != 'sentence-embedding'",
    "middle belongs to classification tasks only",
    "edge.cascade.middle",
)
_PIPELINE_TAKES = CelRule(
    "!has(self.pipeline) || self.pipeline.steps.all(s, s.inputs.all(k,"
    " s.inputs[k].startsWith('request.')"
    f" ? s.inputs[k] == (self.source.task in {list(TEXT_TASKS)} ? 'request.TEXT'"
    " : self.source.task == 'image-classification' ? 'request.IMAGE' : 'request.FEATURES')"
    " : s.inputs[k].contains('.') || s.inputs[k] in"
    " (self.source.task == 'sentence-embedding' ? ['EMBEDDING'] : ['PROBABILITIES', 'LABEL'])))",
    "a step takes what this model says (EMBEDDING; of classification PROBABILITIES or LABEL)"
    " or is given (request.TEXT, request.IMAGE, request.FEATURES)",
    "pipeline.steps",
)
_APART_NEEDS_EDGE = CelRule(
    "!has(self.pipeline) || self.pipeline.placement != 'apart' || has(self.edge)",
    "a pipeline whose steps are apart is joined by the gateway: it needs edge",
    "pipeline.placement",
)
_NO_CASCADE_OF_STEPS = CelRule(
    "!has(self.pipeline) || !has(self.edge) || !has(self.edge.cascade)",
    "a cascade and a pipeline exclude each other: a larger model does not say what the steps say",
    "pipeline",
)
_NO_STEPS_BEFORE_STEPS = CelRule(
    "!has(self.pipeline) || !has(self.edge) || !has(self.edge.preprocess)",
    "a gateway that only preprocesses joins no pipeline",
    "pipeline",
)
_CUT_OF_TEXTS = CelRule(
    f"!has(self.edge) || !has(self.edge.cut) || self.source.task in {list(TEXT_TASKS)}",
    "cut belongs to tasks that take texts",
    "edge.cut",
)
_CUT_NEEDS_GATE = CelRule(
    "!has(self.edge) || !has(self.edge.cut) || has(self.gate)",
    "cut needs gate: the halves are held against the uncut model on its rows",
    "edge.cut",
)
_CUT_OR_PIPELINE = CelRule(
    "!has(self.edge) || !has(self.edge.cut) || !has(self.pipeline)", "cut and a pipeline exclude each other", "edge.cut"
)
_FORMATS_ONCE = CelRule(
    "!has(self.export) || self.export.all(e, self.export.exists_one(f, f.format == e.format))", "each format once", "export"
)
_CUT_ON_CPUS = CelRule(
    "!has(self.edge) || !has(self.edge.cut) || self.serve.runtime == 'triton-ort-cpu'",
    "the upper half of a cut runs on runtime triton-ort-cpu",
    "edge.cut",
)
_OUTPUTS_GATED = CelRule(
    "!has(self.gate) || self.gate.metrics.all(m, !has(m.output) || (has(self.pipeline) && self.pipeline.placement == 'together'"
    " && self.pipeline.steps.exists(s, s.outputs.exists(k, s.outputs[k] == m.output))))",
    "output is one that a step of a pipeline (placement: together) gives to the answer",
    "gate.metrics",
)
_BRIDGE_HAS_A_TOKEN = CelRule(
    "!has(self.serve.mqtt) || has(self.serve.mqtt.backendToken) == (has(self.edge) && has(self.edge.clients.tokens))",
    "the bridge asks the gateway as one of its clients: backendToken belongs to edge.clients.tokens",
    "serve.mqtt.backendToken",
)
_BRIDGE_KNOWS_TLS = CelRule(
    "!has(self.serve.mqtt) || (has(self.edge) && has(self.edge.tls)"
    " ? !has(self.edge.tls.clientAuthority) : !has(self.serve.mqtt.backendAuthority))",
    "backendAuthority belongs to edge.tls, and the bridge has no certificate for a clientAuthority",
    "serve.mqtt.backendAuthority",
)
_WORKERS_SHARE = CelRule(
    "!has(self.distill) || self.distill.stages.all(s, self.build.workers <= s.batchSize) && (!has(self.distill.assistants)"
    " || self.distill.assistants.all(a, a.stages.all(s, self.build.workers <= s.batchSize)))",
    "every worker reads at least one row of a batch: build.workers must not exceed the smallest batchSize",
    "build.workers",
)
RULES = (
    _INDEX_BELONGS, _NO_RETRIEVAL_METRICS, _NO_CLASS_METRICS, LOSSES_FIT_TASK, _LOGITS_ARE_OF_CLASSES, _RESIDUAL_EMBEDS,
    *STUDENT_RULES, _WEIGHTING_OF_CLASSES,
    _GATE_FITS_QUEUE,
    _SEARCH_NEEDS_INDEX, _LOGITS_OF_CLASSES, _OUTLIERS_OF_SEARCH, _PIPELINE_TAKES, _APART_NEEDS_EDGE, _NO_CASCADE_OF_STEPS,
    _OUTPUTS_GATED, _NO_STEPS_BEFORE_STEPS, _MIDDLE_OF_CLASSES,
    _CUT_OF_TEXTS, _CUT_NEEDS_GATE, _CUT_OR_PIPELINE, _CUT_ON_CPUS, _BRIDGE_HAS_A_TOKEN, _BRIDGE_KNOWS_TLS,
    _FORMATS_ONCE, *COMPRESS_RULES, _WORKERS_SHARE,
)  # fmt: skip


_KINDS: Final = {
    "text-classification": "encoder (of the teacher's family), cnn, bilstm or mlp",
    "image-classification": "cnn or mlp",
    "time-series-classification": "cnn or mlp",
}
"""What a classifier's student can be called."""


def parts_fit(spec: Spec) -> None:
    """Look whether the parts of a spec fit together.

    Raises:
        Mistake: the first rule that is broken.
    """
    embedding = spec.source.task == "sentence-embedding"
    if spec.index is not None and not embedding:
        raise _INDEX_BELONGS.broken()
    names = [metric.name for metric in spec.gate.metrics] if spec.gate else []
    if not embedding and any(name.startswith(TEXT_METRICS) for name in names):
        raise _NO_RETRIEVAL_METRICS.broken(fix="write agreement (with the teacher), accuracy or macro-f1")
    plain = [metric.name for metric in spec.gate.metrics if metric.output is None] if spec.gate else []
    if embedding and any(name in CLASS_METRICS for name in plain):
        raise _NO_CLASS_METRICS.broken(fix="write cosine (to the teacher), or mrr@10 where gate.data has pairs")
    if spec.distill is not None:
        pupils: tuple[Distill | Assistant, ...] = (spec.distill, *spec.distill.assistants)
        losses_fit(spec)
        if embedding and spec.distill.top_logits is not None:
            raise _LOGITS_ARE_OF_CLASSES.broken()
        if not embedding and any(pupil.student.architecture == "residual" for pupil in pupils):
            raise _RESIDUAL_EMBEDS.broken(fix=f"write {_KINDS.get(spec.source.task, 'mlp')}")
        student_fits(spec.distill, spec.source.task, workers=spec.build.workers)
        if embedding and spec.distill.weighting not in {None, "fixed"}:
            raise _WEIGHTING_OF_CLASSES.broken(fix="leave weighting out")
    if spec.gate is not None and 0 < spec.serve.queue.max_size < spec.gate.load.concurrency:
        most = spec.gate.load.concurrency
        raise _GATE_FITS_QUEUE.broken(fix=f"write maxSize: {most} (or 0, no limit), or lower spec.gate.load.concurrency")
    if len({each.format for each in spec.export}) < len(spec.export):
        raise _FORMATS_ONCE.broken(fix="remove one of both")
    compress_fits(spec)
    _workers_fit(spec)
    _cut_fits(spec)
    _cascade_fits(spec, embedding)
    _pipeline_fits(spec)
    _bridge_fits(spec)


def _workers_fit(spec: Spec) -> None:
    workers = spec.build.workers
    pupils: tuple[Distill | Assistant, ...] = (spec.distill, *spec.distill.assistants) if spec.distill else ()
    smallest = min((stage.batch_size for pupil in pupils for stage in pupil.stages), default=workers)
    if workers > smallest:
        raise _WORKERS_SHARE.broken(allowed=f"at most {smallest}", fix=f"workers: {smallest}, or a larger batchSize")


def _cut_fits(spec: Spec) -> None:
    if spec.edge is None or spec.edge.cut is None:
        return
    if spec.source.task not in TEXT_TASKS:
        raise _CUT_OF_TEXTS.broken(fix="remove cut")
    if spec.gate is None:
        raise _CUT_NEEDS_GATE.broken(fix="write gate with its data")
    if spec.pipeline is not None:
        raise _CUT_OR_PIPELINE.broken(fix="remove one of both")
    if spec.serve.runtime != "triton-ort-cpu":
        raise _CUT_ON_CPUS.broken(fix="leave serve.runtime out")


def _pipeline_fits(spec: Spec) -> None:
    together = spec.pipeline.steps if spec.pipeline and spec.pipeline.placement == "together" else ()
    outputs = [name for step in together for name in step.outputs.values()]
    if any(metric.output not in (None, *outputs) for metric in (spec.gate.metrics if spec.gate else ())):
        raise _OUTPUTS_GATED.broken(allowed=", ".join(outputs))
    if spec.pipeline is None:
        return
    task = spec.source.task
    known = (*SAID[task], f"request.{GIVEN[task]}")
    for step in spec.pipeline.steps:
        for source in step.inputs.values():
            if ("." not in source or source.startswith("request.")) and source not in known:
                raise _PIPELINE_TAKES.broken(allowed=", ".join(known), fix=f"step {step.name} takes {source}")
    if spec.pipeline.placement == "apart" and spec.edge is None:
        raise _APART_NEEDS_EDGE.broken(fix="add edge: {} to the spec, or write placement: together")
    if spec.edge is not None and spec.edge.cascade is not None:
        raise _NO_CASCADE_OF_STEPS.broken(fix="remove one of both")
    if spec.edge is not None and spec.edge.preprocess is not None:
        raise _NO_STEPS_BEFORE_STEPS.broken(fix="remove one of both")


def _cascade_fits(spec: Spec, embedding: bool) -> None:
    cascade = spec.edge.cascade if spec.edge else None
    if cascade is None:
        return
    if embedding and spec.index is None:
        raise _SEARCH_NEEDS_INDEX.broken(fix="write index with its data, the rows that are searched")
    if embedding and cascade.method == "temperature":
        raise _LOGITS_OF_CLASSES.broken(fix="write platt or isotonic, or leave method out")
    if cascade.outliers is not None and not embedding:
        raise _OUTLIERS_OF_SEARCH.broken(fix="remove outliers")
    if cascade.middle is not None and embedding:
        raise _MIDDLE_OF_CLASSES.broken(fix="remove middle")


def _bridge_fits(spec: Spec) -> None:
    mqtt, edge = spec.serve.mqtt, spec.edge
    if mqtt is None:
        return
    if (mqtt.backend_token is not None) != (edge is not None and edge.clients.tokens is not None):
        raise _BRIDGE_HAS_A_TOKEN.broken(fix="write both, or neither")
    tls = edge.tls if edge is not None else None
    if mqtt.backend_authority is not None if tls is None else tls.client_authority is not None:
        raise _BRIDGE_KNOWS_TLS.broken(fix="remove backendAuthority" if tls is None else "remove edge.tls.clientAuthority")
