"""How an ONNX Runtime session is set up that serves, at the edge too, or is measured for what will serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["session_options"]


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
    # INT8 weights of 8 bits, made where a CPU has VNNI, saturate 16-bit sums on one that has not, without a word. There, and
    # for such weights alone, ONNX Runtime takes unsigned ones, which do not; elsewhere this changes nothing.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options
