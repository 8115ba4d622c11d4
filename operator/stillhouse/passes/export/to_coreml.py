"""`export-coreml`: a Core ML package for Apple's devices. One shape of rows and tokens; it runs on macOS and iOS only."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.errors import SourceError
from stillhouse.inference.signature import Signature
from stillhouse.passes.export.elsewhere import Elsewhere, ExportedConfig, Made, Shape, described
from stillhouse.passes.export.samples import feed

__all__ = ["ToCoreMl"]

_BOOL = 11
"""torch's number of its type `bool`."""


class ToCoreMl(Elsewhere):
    """`model.mlpackage`, an ML program for iOS 16 and macOS 13 or newer."""

    name = "export-coreml"
    form = "coreml"

    def convert(self, model: Path, network: Path | None, shape: Shape, config: ExportedConfig, out: Path) -> Made:
        """Trace the network, convert it, and read the package back: inputs, output, operators."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every torch that is newer than itself, and of libraries of macOS
            logging.getLogger("coremltools").setLevel(logging.ERROR)
            import coremltools as ct

            _teach()
            signature = Signature.read(model)
            assert network is not None  # planning refuses it
            traced, example = _traced(network, signature, shape)
            whole = signature.takes_texts
            converted = ct.convert(
                traced,
                inputs=[
                    ct.TensorType(name=name, shape=each.shape, dtype=np.int32 if whole else np.float32)
                    for name, each in example.items()
                ],
                outputs=[ct.TensorType(name=signature.output, dtype=np.float32)],
                convert_to="mlprogram",
                compute_precision=ct.precision.FLOAT16 if config.precision == "fp16" else ct.precision.FLOAT32,
                minimum_deployment_target=ct.target.iOS16,
                skip_model_load=True,
            )
            converted.save(str(out / "model.mlpackage"))
            spec = ct.models.MLModel(str(out / "model.mlpackage"), skip_model_load=True).get_spec()
        inputs = {each.name: _typed(each) for each in spec.description.input}
        wanted = {name: list(each.shape) for name, each in example.items()}
        if {name: sides for name, (_, sides) in inputs.items()} != wanted or [each.name for each in spec.description.output] != [
            signature.output
        ]:
            raise SourceError(
                "the package has not the model's inputs and output",
                field="spec.export",
                found=f"{', '.join(described(inputs))}; {', '.join(each.name for each in spec.description.output)}",
                allowed=f"{wanted}; {signature.output}",
            )
        operators = sum(
            len(block.operations) for function in spec.mlProgram.functions.values()
            for block in function.block_specializations.values()
        )  # fmt: skip
        return Made(f"coremltools {ct.__version__}", described(inputs), operators=operators)


def _traced(network: Path, signature: Signature, shape: Shape) -> tuple[Any, dict[str, Any]]:
    """Return the traced network, which takes int32, and an example of its inputs."""
    import torch

    from stillhouse.passes.models.artifact import load

    whole = signature.takes_texts

    class Int32(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = load(network, "eager", "network").eval()

        def forward(self, *given: Any) -> Any:
            return self.inner(*(each.long() if whole else each for each in given))

    example = feed(signature, shape.batch, shape.tokens, 1, padded=False)
    tensors = tuple(torch.from_numpy(each.astype(np.int32) if whole else each) for each in example.values())
    with torch.no_grad():
        return torch.jit.trace(Int32().eval(), tensors, check_trace=False, strict=False), example


def _typed(each: Any) -> tuple[str, list[Any]]:
    kind = each.type.multiArrayType
    return {65568: "float32", 131104: "int32", 65552: "float16"}.get(kind.dataType, str(kind.dataType)), list(kind.shape)


def _teach() -> None:
    """Teach the converter what it does not know, or gets wrong.

    `new_ones`, by which transformers begin an attention mask, where it does not know it; and `ones_like` of integers, which
    coremltools 9 makes floats for iOS 16, so that places counted with them are none.
    """
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY, register_torch_op
    from coremltools.converters.mil.mil import types

    @register_torch_op(override=True)  # type: ignore[untyped-decorator]  # coremltools has no types
    def ones_like(context: Any, node: Any) -> None:
        like = _get_inputs(context, node)[0]
        one = np.int32(1) if types.is_int(like.dtype) else np.bool_(True) if types.is_bool(like.dtype) else np.float32(1)
        context.add(Builder.fill_like(ref_tensor=like, value=one, name=node.name))

    if "new_ones" in _TORCH_OPS_REGISTRY:
        return

    @register_torch_op  # type: ignore[untyped-decorator]  # coremltools has no types
    def new_ones(context: Any, node: Any) -> None:
        inputs = _get_inputs(context, node)
        sides = inputs[1]
        kind = inputs[2].val if len(inputs) > 2 and inputs[2] is not None else None
        one = np.bool_(True) if kind == _BOOL else np.int32(1) if kind in (3, 4) else np.float32(1)
        if isinstance(sides, list):
            sides = Builder.concat(values=sides, axis=0)
        if sides.val is not None and np.size(sides.val) == 0:
            context.add(Builder.const(val=one, name=node.name))
        else:
            context.add(Builder.fill(shape=sides, value=one, name=node.name))
