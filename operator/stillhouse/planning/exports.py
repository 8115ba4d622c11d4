"""What a spec's exports become: one step a format, made of the FP32 graph and of the network that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stillhouse.api.export import Export
from stillhouse.errors import SpecError
from stillhouse.planning.plan import StepDraft

__all__ = ["export_id", "exports"]

FROM_NETWORK = ("litert", "coreml")
"""Formats whose converter reads a torch network."""


def export_id(form: str) -> str:
    """Return the id of the step that makes a format."""
    return f"compress/export-{form}"


def exports(wanted: Iterable[Export], graph: str, network: str | None, data: str | None) -> Iterator[StepDraft]:
    """Draft the exports. `graph` makes the FP32 ONNX model, `network` (None: there is none) what that was made from.

    `data`: the step with rows to compare answers on, None: there are none, and seeded ids or pixels stand for them.

    Raises:
        SpecError: a format is made from a torch network, and the source is an ONNX file.
    """
    for position, each in enumerate(wanted):
        if each.format in FROM_NETWORK and network is None:
            raise SpecError(
                "this format is made from a torch network, and the source is an ONNX file",
                field=f"spec.export[{position}].format",
                found=each.format,
                allowed="openvino or tensorrt",
                fix="give the model's safetensors folder as the source",
            )
        parents = {"model": graph, **({"network": network} if network else {}), **({"data": data} if data else {})}
        config = {"precision": each.precision, "batch": each.batch, "tokens": each.tokens}
        yield StepDraft(export_id(each.format), "compress", f"export-{each.format}", config, parents)
