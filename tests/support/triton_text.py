"""Triton's Prometheus text, as 2.51 writes it (tests/triton/test_signals.py holds the real one against what is read)."""

from __future__ import annotations

__all__ = ["triton_text"]


def triton_text(
    model: str,
    *,
    requests: float = 0,
    failures: float = 0,
    executions: float = 0,
    pending: float = 0,
    queue_us: float = 0,
    compute_us: float = 0,
) -> str:
    """Return the text of a server with one model. `compute_us` is split over input, inference and output."""
    marks = f'model="{model}",version="1"'
    one, other = f"{{{marks}}}", f'{{model="{model}",reason="REJECTED",version="1"}}'
    parts = {"input": 0.1 * compute_us, "infer": 0.8 * compute_us, "output": 0.1 * compute_us}
    lines = [
        "# HELP nv_inference_request_success Number of successful inference requests, all batch sizes",
        "# TYPE nv_inference_request_success counter",
        f"nv_inference_request_success{one} {requests}",
        "# TYPE nv_inference_request_failure counter",
        f"nv_inference_request_failure{other} {failures}",
        "# TYPE nv_inference_count counter",
        f"nv_inference_count{one} {requests}",
        "# TYPE nv_inference_exec_count counter",
        f"nv_inference_exec_count{one} {executions}",
        "# TYPE nv_inference_request_duration_us counter",
        f"nv_inference_request_duration_us{one} {queue_us + compute_us}",
        "# TYPE nv_inference_queue_duration_us counter",
        f"nv_inference_queue_duration_us{one} {queue_us}",
    ]
    for name, value in parts.items():
        metric = f"nv_inference_compute_{name}_duration_us"
        lines += [f"# TYPE {metric} counter", f"{metric}{one} {value}"]
    lines += ["# TYPE nv_inference_pending_request_count gauge", f"nv_inference_pending_request_count{one} {pending}"]
    return "\n".join(lines) + "\nnv_pinned_memory_pool_used_bytes 0\n"
