"""A model with each operator's weights in one of three precisions: FP32, INT8, or INT4 in blocks.

INT4 are weights alone. INT8 of a layer is dynamic quantization, weights and activations; of a table a scale for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.passes.base import PassConfig
from stillhouse.passes.compress.blocks import Blocks, rounded
from stillhouse.passes.compress.gptq import gptq
from stillhouse.passes.compress.quantize import Operator, quantize
from stillhouse.passes.compress.rows import products
from stillhouse.passes.compress.weights import LEVELS, operators, parts, plain, row_block, with_blocks
from stillhouse.passes.export.samples import Feed
from stillhouse.passes.export.tidy import tidy

__all__ = ["PRECISIONS", "LoweredConfig", "Lowering", "Precision", "read"]

Precision = Literal["fp32", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int4")


class LoweredConfig(PassConfig):
    """How weights become few bits, for whichever pass does it.

    `block_size`: weights to a scale. `method`: `gptq` (needs calibration data) or `rtn`. `activations`: what layers of 4 bits
    compute in. `samples`: rows of calibration data. `reduce_range`: 7 bits for INT8 weights of layers. `layers`: the lowest
    precision of layers; tables go to INT4 in any case.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    block_size: Literal[16, 32, 64, 128] = 32
    method: Literal["rtn", "gptq"] = "rtn"
    activations: Literal["int8", "fp32"] = "int8"
    layers: Literal["int8", "int4"] = "int4"
    samples: int = Field(default=128, ge=1, le=100_000)
    reduce_range: bool = False
    threads: int = Field(default=1, ge=1, le=256)


@dataclass(frozen=True, slots=True)
class _Held:
    """The blocks of one operator: node of the plain graph → blocks."""

    int4: Mapping[str, Blocks]
    int8: Mapping[str, Blocks]
    int4_bytes: int


def read(folder: Path) -> onnx.ModelProto:
    """Return an artifact's graph in which every node has a name of its own: by it operators are told apart."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    names = [node.name for node in model.graph.node]
    return model if all(names) and len(set(names)) == len(names) else tidy(model, model.graph.output[0].name)


class Lowering:
    """An FP32 graph, with what its weights become. Every weight is rounded once, when this is made."""

    def __init__(
        self, model: onnx.ModelProto, config: LoweredConfig, feeds: Sequence[Feed], tick: Callable[[int, int, str], None]
    ) -> None:
        """Round. `feeds`: the calibration rows, for `gptq`; `tick` is told done, of how many, and what.

        Raises:
            ValueError: there is no operator whose weights could be in blocks.
        """
        self.operators: list[Operator] = operators(model)
        if not self.operators:
            raise ValueError("no operator is left to quantize")
        self._model, self._config, self._output = model, config, model.graph.output[0].name
        names = {each.name for each in self.operators}
        graph = plain(model, names)
        found = list(parts(graph.graph, names))
        layers = [each for each in found if not each.table and config.layers == "int4"]
        found = [each for each in found if each.table or config.layers == "int4"]
        self._whole = {each.name: each.weights for each in self.operators}
        low: dict[str, Blocks] = {}
        if config.method == "gptq" and layers:
            for part, sums in products(
                graph, layers, feeds, config.threads, lambda done: tick(done, len(found), "rounding to INT4")
            ):
                low[part.node] = gptq(part.rows, sums, config.block_size, 4)
        for each in found:
            if each.node not in low:
                low[each.node] = rounded(each.rows, config.block_size, 4)
                tick(len(low), len(found), "rounding to INT4")
        self.filled = sum(each.rows.shape[1] % config.block_size > 0 for each in found)
        self._held = {
            name: _Held(
                {each.node: low[each.node] for each in found if each.operator == name},
                {
                    each.node: rounded(each.rows, row_block(each.rows.shape[1]), 8)
                    for each in found
                    if each.operator == name and each.table
                },
                sum(_bytes(low[each.node], each.table) for each in found if each.operator == name),
            )
            for name in names
        }

    def bytes_of(self, name: str, precision: Precision) -> int:
        """Return about what an operator's weights take on disk."""
        if precision == "int4":
            return self._held[name].int4_bytes
        return self._whole[name] * (4 if precision == "fp32" else 1)

    def precisions_of(self, name: str) -> tuple[Precision, ...]:
        """Return the precisions that an operator may have, FP32 first."""
        return PRECISIONS if self._held[name].int4 else PRECISIONS[:2]

    def made(self, choice: Mapping[str, Precision]) -> onnx.ModelProto:
        """Return the model with operators in the chosen precisions; those that are not named stay FP32.

        Raises:
            Exception: the quantizer's own, for a graph that it cannot handle.
        """
        low = {name for name, each in choice.items() if each == "int4"}
        tables = {name for name, each in choice.items() if each == "int8" and self._held[name].int8}
        blocks: dict[str, Blocks] = {}
        for name in low:
            blocks |= self._held[name].int4
        for name in tables:
            blocks |= self._held[name].int8
        model = self._model
        if blocks:
            model = with_blocks(plain(model, low | tables), blocks, LEVELS[self._config.activations])
        dynamic = [name for name, each in choice.items() if each == "int8" and name not in tables]
        if dynamic:
            return quantize(model, per_channel=True, reduce_range=self._config.reduce_range, only=dynamic)
        return tidy(model, self._output)


def _bytes(blocks: Blocks, table: bool) -> int:
    return blocks.values.size * blocks.bits // 8 + blocks.scales.size * (2 if table else 4) + blocks.zeros.size // 2
