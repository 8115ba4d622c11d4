"""How many bits the weights of INT8 keep where the tests run: as the planner decides it."""

from typing import Final

from stillhouse.clients.hardware import hardware
from stillhouse.inference.cpu import reduce_range

__all__ = ["BITS", "REDUCE_RANGE"]

REDUCE_RANGE: Final = reduce_range(hardware().isa)
"""True on AVX2 without VNNI, where sums of 8-bit weights saturate: their graphs answer something else there, however made."""
BITS: Final = {"reduceRange": REDUCE_RANGE}
"""That, as the passes' configurations have it."""
