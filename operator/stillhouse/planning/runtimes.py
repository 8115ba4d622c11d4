"""Which servers there are, as far as nobody has to run one: what they are called and what is known against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["CPU", "FACTS", "GPU", "RuntimeFacts", "runtime_of"]

CPU, GPU = "triton-ort-cpu", "triton-nvidia"


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """`advisory` is what an administrator must know of its security, "" where nothing is known."""

    server_version: str
    advisory: str = ""


FACTS: Mapping[str, RuntimeFacts] = MappingProxyType(
    {
        CPU: RuntimeFacts(
            "2.51",
            "Triton 2.51 is the only server on the Python package index. NVIDIA's security bulletins since then name it (57 "
            "CVEs from January 2025 to August 2026, most in the HTTP front end, shared memory and the Python backend's control "
            "messages).",
        ),
        GPU: RuntimeFacts("26.06"),
    }
)


def runtime_of(serve: Mapping[str, Any]) -> str:
    """Return the runtime that measured settings in plain units (`planning.request.serve_config`) are for."""
    return GPU if serve.get("gpus") else CPU
