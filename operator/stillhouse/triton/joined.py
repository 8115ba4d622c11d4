"""A pipeline whose steps are together: the model, its steps, and the ensemble of all of them under the model's public name.

The model is rendered as it is without steps, under a name of its own. Each step gets a backend that runs ONNX on the CPU: ours,
or that of the runtime's own ensemble. Between them are names of tensors.

No tensor is both in the answer and taken by a step: where a client names outputs, Triton drops what gives none of them, and
does not see that a later step needs it (2.51: "unexpected deadlock"). Our backends give such a tensor twice, as `X` and
`X.next`; where another one gives it, a step of ours copies it for the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stillhouse.inference.signature import SIGNATURE_FILE
from stillhouse.inference.steps import Step, Tensor, ends_of, step_file, used
from stillhouse.triton.model_config import NEXT, RenderedModel, add_parameters, add_tensors
from stillhouse.triton.runtimes import Runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings

__all__ = ["joined"]

_BASE, _COPY = "_base", "_copy"
"""Ends of the names of the model without its steps, and of the step that copies. Names of steps have no `_`."""


@dataclass(slots=True)
class _Plan:
    """`whole` is the ensemble's configuration. `named`: reference → the tensor's name in the ensemble.

    `copied`: ends of others' backends that the answer has too, with their names there.
    """

    whole: Any
    ours: bool
    taken: frozenset[str]
    named: dict[str, str] = field(default_factory=dict)
    copied: list[tuple[Tensor, str]] = field(default_factory=list)

    def give(self, part: Any, reference: str, end: Tensor, public: str) -> None:
        """Have `part` of the ensemble give a tensor: to later steps (`reference`), to the answer (`public`, "": not there)."""
        inner = f"{reference}.next"
        if reference not in self.taken:
            part.output_map[end.name] = public
            return
        self.named[reference] = inner
        if not public:
            part.output_map[end.name] = inner
        elif self.ours:
            part.output_map[end.name] = public
            part.output_map[end.name + NEXT] = inner
        else:
            part.output_map[end.name] = inner
            self.copied.append((replace(end, name=inner), public))


def joined(
    artifact: ArtifactView, runtime: Runtime, serve: ServeSettings, alone: Callable[[ArtifactView], Iterable[RenderedModel]]
) -> Iterator[RenderedModel]:
    """Yield the ensemble, under the artifact's name, the model and the steps. `alone` renders a model without steps."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    ours = not runtime.ensemble
    taken = frozenset(source for step in artifact.steps for source in step.inputs.values())

    def rendered(config: Any, *files: str, **renamed: str) -> RenderedModel:
        text = str(text_format.MessageToString(config, as_utf8=True))
        return RenderedModel(config.name, text, files, {f"{name}.onnx": source for name, source in renamed.items()})

    plan = _Plan(pb.ModelConfig(name=artifact.name, platform="ensemble", max_batch_size=serve.max_batch_size), ours, taken)
    _whole(plan, artifact, serve, pb)
    # The signature only because Triton asks for a version folder, and a folder without a file is none.
    yield rendered(plan.whole, SIGNATURE_FILE)
    twice = tuple(name for name in ends_of(artifact.signature) if name in taken and "." not in name) if ours else ()
    yield from alone(replace(artifact, name=artifact.name + _BASE, steps=(), twice=twice))
    for step, gives in used(artifact.steps):
        yield rendered(_step(artifact, runtime, serve, step, gives, taken, pb), model=step_file(step.name))
    if plan.copied:
        yield rendered(_copy(artifact, serve, plan.copied, pb), SIGNATURE_FILE)


def _whole(plan: _Plan, artifact: ArtifactView, serve: ServeSettings, pb: Any) -> None:
    config = plan.whole
    add_tensors(config, artifact, pb)
    base = config.ensemble_scheduling.step.add(model_name=artifact.name + _BASE, model_version=-1)
    for tensor in config.input:
        base.input_map[tensor.name] = tensor.name
    ends = ends_of(artifact.signature)
    for tensor in config.output:
        plan.give(base, tensor.name, ends.get(tensor.name) or Tensor(tensor.name, "BYTES", (1,)), tensor.name)
    for step, gives in used(artifact.steps):
        part = config.ensemble_scheduling.step.add(model_name=f"{artifact.name}_{step.name}", model_version=-1)
        for name, source in step.inputs.items():
            part.input_map[name] = plan.named.get(source, source.removeprefix("request."))
        for each in gives:
            public = step.outputs.get(each.name, "")
            plan.give(part, f"{step.name}.{each.name}", each, public)
            if public:
                config.output.add(name=public, data_type=_type(each, pb), dims=each.shape)
    if plan.copied:
        copy = config.ensemble_scheduling.step.add(model_name=artifact.name + _COPY, model_version=-1)
        for each, public in plan.copied:
            copy.input_map[each.name] = each.name
            copy.output_map[public] = public
    add_parameters(config, artifact, serve, 1)
    config.parameters["stillhouse.steps"].string_value = json.dumps([step.name for step in artifact.steps])


def _step(
    artifact: ArtifactView,
    runtime: Runtime,
    serve: ServeSettings,
    step: Step,
    gives: Sequence[Tensor],
    taken: frozenset[str],
    pb: Any,
) -> Any:
    ours = not runtime.ensemble
    config = _on_a_cpu(artifact, f"_{step.name}", "stillhouse_step" if ours else runtime.backend, serve, pb)
    twice = [
        replace(each, name=each.name + NEXT)
        for each in gives
        if ours and each.name in step.outputs and f"{step.name}.{each.name}" in taken
    ]
    for tensors, ends in ((config.input, step.takes), (config.output, (*gives, *twice))):
        for each in ends:
            tensor = tensors.add(name=each.name, data_type=_type(each, pb), dims=each.shape)
            if each.flat and not ours:
                tensor.reshape.SetInParent()  # to no dimension but the batch; our own backend sees by itself
    return config


def _copy(artifact: ArtifactView, serve: ServeSettings, copied: Sequence[tuple[Tensor, str]], pb: Any) -> Any:
    config = _on_a_cpu(artifact, _COPY, "stillhouse_copy", serve, pb)
    for each, public in copied:
        config.input.add(name=each.name, data_type=_type(each, pb), dims=each.shape)
        config.output.add(name=public, data_type=_type(each, pb), dims=each.shape)
    return config


def _on_a_cpu(artifact: ArtifactView, end: str, backend: str, serve: ServeSettings, pb: Any) -> Any:
    config = pb.ModelConfig(name=artifact.name + end, backend=backend, max_batch_size=serve.max_batch_size)
    config.instance_group.add(name=config.name, kind=pb.ModelInstanceGroup.KIND_CPU, count=1)
    config.dynamic_batching.SetInParent()  # its presence alone turns batching on; nobody waits for company here
    return config


def _type(tensor: Tensor, pb: Any) -> Any:
    return pb.DataType.Value("TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}")
