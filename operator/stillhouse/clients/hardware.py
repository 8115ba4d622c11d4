"""The machine that this process runs on: what measuring steps are keyed by."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from stillhouse.inference.cpu import processor

__all__ = ["Hardware", "hardware"]


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
    model, flags = processor()
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


def parse_cpu_max(text: str) -> float | None:
    """Return the CPU limit of cgroup v2's `cpu.max` ("quota period", both in µs), None for "max" or nothing."""
    parts = text.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[1]) == 0:
        return None
    return int(parts[0]) / int(parts[1])


def _first_version() -> str:
    """Return what cgroup v1 says, as v2 would; a quota of -1 is none."""
    quota, period = (_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return f"{quota} {period}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
