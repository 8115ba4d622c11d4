"""How an ONNX Runtime session is set up that serves, at the edge too, or is measured for what will serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhouse.inference.cpu import saturates

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["UNSIGNED", "session_options", "way_out"]

UNSIGNED = "session.x64quantprecision"


def session_options(threads: int) -> ort.SessionOptions:
    """Return options of a session on the CPU that shares cores with a server.

    `threads`: intra-op threads. ONNX Runtime must be installed.

    Raises:
        ImportError: it is not.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = max(threads, 1), 1
    options.log_severity_level = 3
    # Spinning threads take the cores that the server's own threads need (measured: docs/design/20261122-embedded-server.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # INT8 weights of 8 bits, made where a CPU has VNNI, saturate 16-bit sums on one that has not, without a word. Unsigned ones
    # do not: ONNX Runtime takes such a model's so. Never where there is VNNI: INT8 is 1.3 to 2.4 times as slow there with it.
    if saturates():
        options.add_session_config_entry(UNSIGNED, "1")
    return options


def way_out(error: Exception, fix: str) -> str:
    """Return what to do about a model that did not load: `fix`, but where a weight could not be taken unsigned.

    ONNX Runtime does so for each operator that reads it and has one name for all (1.31), so a shared weight is refused.
    """
    if saturates() and "replace the existing tensor" in str(error):
        return (
            "operators share an INT8 weight of 8 bits, which cannot be read right on this CPU (no VNNI): serve the model where "
            "there is VNNI, or build it on a machine like this one, where weights keep 7 bits"
        )
    return fix
