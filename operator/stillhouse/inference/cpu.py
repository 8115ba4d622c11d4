"""What this machine's CPU can do with INT8: how many bits of a weight are safe, and how a session must read them."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

__all__ = ["parse_cpuinfo", "processor", "reduce_range", "saturates"]

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS = (
    "avx", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "sve",
)  # fmt: skip
"""Instruction sets that ONNX Runtime's kernels ask for; `/proc/cpuinfo`'s names."""
_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def processor() -> tuple[str, tuple[str, ...]]:
    """Return this machine's (model name, known instruction sets); what it does not tell is empty. No error is raised."""
    try:
        return parse_cpuinfo(_CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:  # no Linux, or not for us
        return "", ()


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Return (model name, known instruction sets in a fixed order) from the first processor of `/proc/cpuinfo`."""
    model, flags = "", frozenset[str]()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Processor") and not model:
            model = value.strip()
        elif key.strip() in ("flags", "Features") and not flags:
            flags = frozenset(value.split())
    return model, tuple(flag for flag in _FLAGS if flag in flags)


def reduce_range(isa: tuple[str, ...]) -> bool:
    """Say whether INT8 weights need 7 bits: x86 with AVX2 but without an INT8 dot product.

    `vpmaddubsw` adds two U8·S8 products in 16 bits and saturates (ONNX Runtime's documentation, "Quantize ONNX models",
    "When and why do I need to try U8U8"); VNNI, AMX and Arm's dot products add in 32 bits.
    """
    return ("avx2" in isa or "avx512f" in isa) and not _INT8.intersection(isa)


@functools.cache
def saturates() -> bool:
    """Say whether this CPU may cut off sums of 8-bit weights in silence; an x86 that tells nothing of itself may."""
    _, isa = processor()
    return reduce_range(isa) if isa else platform.machine().lower() in {"x86_64", "amd64"}
