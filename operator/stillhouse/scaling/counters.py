"""What one Triton has counted, read from its Prometheus text. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from stillhouse.errors import ServerError
from stillhouse.planning.upper import UPPER

__all__ = ["Sample", "read"]

_US = 1e-6
_PENDING = "nv_inference_pending_request_count"
_SUCCESS, _FAILURE = "nv_inference_request_success", "nv_inference_request_failure"
_EXECUTIONS = "nv_inference_exec_count"
_QUEUE = "nv_inference_queue_duration_us"
_COMPUTE = (
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
)
_CACHED = "nv_cache_num_hits_per_model"
_CPU = "stillhouse_cpu_seconds_total"
_NEEDED = (_PENDING, _SUCCESS, _EXECUTIONS, _QUEUE, *_COMPUTE)
_READ = (*_NEEDED, _FAILURE, _CACHED, _CPU)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a server. `at` is our own clock in seconds; all but `pending` are sums since the server's start.

    `ended` are requests that were answered, refused or given up; `computed` those that ran (no answers from the cache);
    `executions` how often the model ran, a batch at a time; `queue_s` and `compute_s` seconds, summed over requests: a batch of
    eight counts eight times. `cpu_s` is the CPU time of everything in the pod, None where the pod does not tell it (an older
    image).
    """

    at: float
    pending: float
    ended: float
    computed: float
    executions: float
    queue_s: float
    compute_s: float
    cpu_s: float | None = None


def read(text: str, model: str, at: float) -> Sample:
    """Read what a server says of a model; of one that was cut, its upper half runs in the same pod and counts with it.

    Raises:
        ServerError: it says nothing of that model, or not in a form that we know.
    """
    lines = [line for line in text.splitlines() if line.startswith(_READ)]
    sums: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if sample.labels.get("model") in (model, model + UPPER):
                    sums[sample.name] = sums.get(sample.name, 0.0) + float(sample.value)
    except ValueError as error:
        raise ServerError("the metrics cannot be read", found=str(error)[:200]) from error
    missing = [name for name in _NEEDED if name not in sums]
    if missing:
        raise ServerError("the metrics lack what is needed", field=model, found=f"no {', '.join(missing)}"[:300])
    return Sample(
        at=at,
        pending=sums[_PENDING],
        ended=sums[_SUCCESS] + sums.get(_FAILURE, 0.0),
        computed=sums[_SUCCESS] - sums.get(_CACHED, 0.0),
        executions=sums[_EXECUTIONS],
        queue_s=sums[_QUEUE] * _US,
        compute_s=sum(sums[name] for name in _COMPUTE) * _US,
        cpu_s=sums.get(_CPU),
    )
