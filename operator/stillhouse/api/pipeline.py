"""`spec.pipeline`: steps that go on from what a model answers, until there is a decision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule, without_nulls
from stillhouse.api.guarding import SecretName
from stillhouse.api.scalars import NAME, ModelName, Uri

__all__ = ["CONTRACT", "GIVEN", "REFERENCE", "SAID", "TENSOR", "Head", "OutputName", "Pipeline", "PipelineStep"]

CONTRACT = ("TEXT", "IMAGE", "FEATURES", "EMBEDDING", "LABEL", "PROBABILITIES", "PROVENANCE")
"""Tensors of the wire contract: what a model takes and says by itself."""
GIVEN = {
    "sentence-embedding": "TEXT", "text-classification": "TEXT", "image-classification": "IMAGE",
    "tabular-classification": "FEATURES", "time-series-classification": "FEATURES",
}  # fmt: skip
"""Task → what a request holds."""
SAID = {
    "sentence-embedding": ("EMBEDDING",),
    "text-classification": ("PROBABILITIES", "LABEL"),
    "image-classification": ("PROBABILITIES", "LABEL"),
    "tabular-classification": ("PROBABILITIES", "LABEL"),
    "time-series-classification": ("PROBABILITIES", "LABEL"),
}
"""Task → what the model says and a step may take."""

TENSOR = r"^[A-Za-z_][A-Za-z0-9_]*$"
REFERENCE = r"^([a-z]([-a-z0-9]*[a-z0-9])?\.)?[A-Za-z_]([A-Za-z0-9_.:/-]*[A-Za-z0-9_:/-])?$"
_KEY = r"^[A-Za-z_][A-Za-z0-9_.:/-]*$"
_LONGEST_KEY = 64
_MOST = 8
"""Steps of a pipeline."""
_PLACES = str(list(range(_MOST)))
OutputName = Annotated[str, StringConstraints(pattern=TENSOR, max_length=_LONGEST_KEY)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE, max_length=90)]
Inputs = Annotated[dict[str, Reference], Field(min_length=1, max_length=8), BeforeValidator(without_nulls)]
Outputs = Annotated[dict[str, OutputName], Field(max_length=8), BeforeValidator(without_nulls)]
StepName = Annotated[str, StringConstraints(pattern=NAME, max_length=24)]

_SECRETS_OF_MODEL = CelRule(
    "has(self.model) || (!has(self.backendAuthority) && !has(self.backendToken))",
    "backendAuthority and backendToken belong to a step of model",
    "backendToken",
)
_ONE_KIND = CelRule("has(self.onnx) != has(self.model)", "a step is either onnx or model", "model")
_KEYS = CelRule(
    f"self.inputs.all(k, size(k) <= {_LONGEST_KEY} && k.matches('{_KEY}'))"
    f" && self.outputs.all(k, size(k) <= {_LONGEST_KEY} && k.matches('{_KEY}'))",
    f"names of tensors have letters, digits and _ . : / - in them, first a letter or _, and at most {_LONGEST_KEY} characters",
)
_FREE_NAME = CelRule(
    "!(self.name in ['request', 'base'])", "request is what the client sent and base this model: a step has another name", "name"
)
_FREE_OUTPUTS = CelRule(
    "self.outputs.all(k, !(self.outputs[k] in ['" + "', '".join(CONTRACT) + "']))",
    "TEXT, IMAGE, FEATURES, EMBEDDING, LABEL, PROBABILITIES and PROVENANCE are the model's own: outputs need other names",
    "outputs",
)
_TOGETHER = CelRule(
    "self.placement != 'together' || self.steps.all(s, has(s.onnx))",
    "placement together takes steps of onnx: a DistilledModel has servers of its own (placement: apart)",
    "placement",
)
_APART = CelRule(
    "self.placement != 'apart' || self.steps.all(s, has(s.model))",
    "placement apart takes steps of model: an ONNX file has no servers of its own (placement: together)",
    "placement",
)
_NAMES_DIFFER = CelRule(
    "self.steps.all(s, self.steps.filter(t, t.name == s.name).size() == 1)", "two steps have the same name", "steps"
)
_EARLIER = CelRule(
    # By positions: a rule that looks for a name's place in the list costs too much in the eyes of the API server.
    f"{_PLACES}.all(i, size(self.steps) <= i || self.steps[i].inputs.all(k, !self.steps[i].inputs[k].contains('.')"
    " || self.steps[i].inputs[k].startsWith('request.')"
    f" || {_PLACES}.exists(j, j < i && self.steps[i].inputs[k].startsWith(self.steps[j].name + '.'))))",
    "STEP.TENSOR names a step that comes before",
    "steps",
)
_OUTPUTS_DIFFER = CelRule(
    "self.steps.all(s, s.outputs.all(k, s.outputs.filter(j, s.outputs[j] == s.outputs[k]).size() == 1"
    " && self.steps.filter(t, t.outputs.exists(j, t.outputs[j] == s.outputs[k])).size() == 1))",
    "two outputs have the same name in the answer",
    "steps",
)
_ANSWERS = CelRule(
    "size(self.steps[size(self.steps) - 1].outputs) > 0", "the last step needs outputs: nobody would see what it says", "steps"
)


class Head(ApiModel):
    """A small ONNX model over tensors: a logistic regression, a few layers, a rule."""

    uri: Uri
    """The `.onnx` file, or a folder with one: `file://`, `hf://…`, or a named source such as `models:spam-head`."""


class PipelineStep(ApiModel):
    """One step."""

    name: StepName
    """Name of the step, for references, errors and times."""
    onnx: Head | None = None
    """The step is this ONNX model, in this model's own server."""
    model: ModelName | None = None
    """The step is this DistilledModel of the same namespace, with servers and scaling of its own."""
    backend_authority: SecretName | None = None
    """Secret with `ca.crt` of its gateway's certificate, which is for MODEL.NAMESPACE.svc, in a cluster; left out: no TLS."""
    backend_token: SecretName | None = None
    """Secret with `token`, which is shown to its gateway, in a cluster: one of its `clients.tokens`."""
    inputs: Inputs
    """Input of the step → where it comes from: `TENSOR` is what this model says (`EMBEDDING`, `PROBABILITIES`, `LABEL`),
    `STEP.TENSOR` what an earlier step says, `request.TENSOR` what the client sent (`TEXT`, `IMAGE`, `FEATURES`)."""
    outputs: Outputs = Field(default={})
    """Output of the step → its name in the answer. What stands here is answered beside what this model says by itself."""

    cel_rules = (_ONE_KIND, _KEYS, _FREE_NAME, _FREE_OUTPUTS, _SECRETS_OF_MODEL)

    @model_validator(mode="after")
    def _fits(self) -> PipelineStep:
        import re

        if (self.onnx is None) == (self.model is None):
            raise _ONE_KIND.broken(fix="write one of both")
        if self.model is None and (self.backend_authority or self.backend_token):
            raise _SECRETS_OF_MODEL.broken(fix="remove both")
        keys = (*self.inputs, *self.outputs)
        if any(len(key) > _LONGEST_KEY or not re.fullmatch(_KEY, key) for key in keys):
            raise _KEYS.broken()
        if self.name in ("request", "base"):
            raise _FREE_NAME.broken()
        if any(value in CONTRACT for value in self.outputs.values()):
            raise _FREE_OUTPUTS.broken()
        return self


class Pipeline(ApiModel):
    """What happens with this model's answer before the client gets it. The whole is one model to clients."""

    placement: Literal["together", "apart"] = "together"
    """`together`: all steps in one server, joined by Triton as an ensemble; measured by the gate as one. `apart`: each step is a
    DistilledModel that scales by itself; the gateway (`edge`) joins them over gRPC."""
    steps: Annotated[tuple[PipelineStep, ...], Field(min_length=1, max_length=_MOST)]
    """The steps, each after those that it takes something from. This model comes before all of them."""

    cel_rules = (_TOGETHER, _APART, _NAMES_DIFFER, _EARLIER, _OUTPUTS_DIFFER, _ANSWERS)

    @model_validator(mode="after")
    def _steps_fit(self) -> Pipeline:
        if self.placement == "together" and any(step.onnx is None for step in self.steps):
            raise _TOGETHER.broken(fix="write placement: apart, or steps of onnx")
        if self.placement == "apart" and any(step.model is None for step in self.steps):
            raise _APART.broken(fix="write placement: together, or steps of model")
        names = [step.name for step in self.steps]
        if len(set(names)) != len(names):
            raise _NAMES_DIFFER.broken()
        for position, step in enumerate(self.steps):
            for source in step.inputs.values():
                owner, dot, _ = source.partition(".")
                if dot and owner != "request" and owner not in names[:position]:
                    raise _EARLIER.broken(
                        allowed=", ".join(("request", *names[:position])),
                        fix=f"{step.name} takes {source}: name an earlier step, or leave the step's name out for this model",
                    )
        public = [name for step in self.steps for name in step.outputs.values()]
        if len(set(public)) != len(public):
            raise _OUTPUTS_DIFFER.broken()
        if not self.steps[-1].outputs:
            raise _ANSWERS.broken(fix=f"write outputs for step {names[-1]}, or leave it out")
        return self
