"""What the gateway's process loads before it knows what it is for: at the edge every megabyte is the model's."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATE = {"opentelemetry", "requests", "grpc", "tritonclient", "torch", "transformers", "onnx", "onnxruntime", "kubernetes", "kopf"}


@pytest.mark.parametrize("module", ["stillhouse.edge.gateway", "stillhouse.edge.service"])
def test_what_is_heavy_is_loaded_where_it_is_used(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not LATE & set(done.stdout.split())
