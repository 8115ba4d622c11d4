"""The machine that this process runs on: what measuring steps are keyed by, and what quantization must know."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Hardware", "hardware", "parse_cpuinfo", "reduce_range"]

_FLAGS = (
    "avx", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "sve",
)  # fmt: skip
"""Instruction sets that ONNX Runtime's kernels ask for; `/proc/cpuinfo`'s names."""
_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a timing depends on.

    `cores` are the CPUs that this process may use, `cpu_limit` the cgroup's limit in CPUs (None: none), `memory` the
    machine's memory in bytes, or the cgroup's limit where that is lower.
    """

    cpu_model: str
    architecture: str
    isa: tuple[str, ...]
    cores: int
    cpu_limit: float | None
    memory: int

    def to_json(self) -> dict[str, object]:
        """Return plain JSON data, camelCase."""
        return {
            "cpuModel": self.cpu_model,
            "architecture": self.architecture,
            "isa": list(self.isa),
            "cores": self.cores,
            "cpuLimit": self.cpu_limit,
            "memory": self.memory,
        }


@functools.cache
def hardware() -> Hardware:
    """Look at this machine once per process. No error is raised: what cannot be read is left empty."""
    model, flags = parse_cpuinfo(_read("/proc/cpuinfo"))
    total = psutil.virtual_memory().total
    limit = (_read("/sys/fs/cgroup/memory.max") or _read("/sys/fs/cgroup/memory/memory.limit_in_bytes")).strip()
    return Hardware(
        cpu_model=model or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        isa=flags,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cpu_limit=parse_cpu_max(_read("/sys/fs/cgroup/cpu.max") or _first_version()),
        memory=min(total, int(limit)) if limit.isdigit() else total,
    )


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


def parse_cpu_max(text: str) -> float | None:
    """Return the CPU limit of cgroup v2's `cpu.max` ("quota period", both in µs), None for "max" or nothing."""
    parts = text.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[1]) == 0:
        return None
    return int(parts[0]) / int(parts[1])


def reduce_range(isa: tuple[str, ...]) -> bool:
    """Say whether INT8 weights need 7 bits: x86 with AVX2 but without an INT8 dot product.

    `vpmaddubsw` adds two U8·S8 products in 16 bits and saturates (ONNX Runtime's documentation, "Quantize ONNX models",
    "When and why do I need to try U8U8"); VNNI, AMX and Arm's dot products add in 32 bits.
    """
    return ("avx2" in isa or "avx512f" in isa) and not _INT8.intersection(isa)


def _first_version() -> str:
    """Return what cgroup v1 says, as v2 would; a quota of -1 is none."""
    quota, period = (_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return f"{quota} {period}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
