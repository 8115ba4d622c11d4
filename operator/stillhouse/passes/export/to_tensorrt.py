"""`export-tensorrt`: what builds an engine. An engine fits one GPU and one version of TensorRT, so it is built where it runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import onnx

from stillhouse.inference.signature import Signature
from stillhouse.passes.export.elsewhere import MODEL_FILE, Elsewhere, ExportedConfig, Made, Shape
from stillhouse.passes.export.plain import link, plain_graph

__all__ = ["ToTensorRt", "command"]

_WORKSPACE = "2048M"
OLDEST = "10.0"
"""The first TensorRT whose networks take int64, as token ids are."""


class ToTensorRt(Elsewhere):
    """`model.onnx` of standard operators, `engine.json` (what the engine is tuned for) and `build-engine.sh` (trtexec)."""

    name = "export-tensorrt"
    form = "tensorrt"

    def convert(self, model: Path, network: Path | None, shape: Shape, config: ExportedConfig, out: Path) -> Made:
        """Render; nothing of TensorRT is needed here."""
        graph = plain_graph(model, network, out)
        if graph.parent != out:
            link(graph, out / MODEL_FILE)
        signature = Signature.read(model)
        profile = profiles(signature, shape)
        engine = {
            "onnx": MODEL_FILE,
            "engine": "model.plan",
            "fp16": config.precision == "fp16",
            "workspace": _WORKSPACE,
            "profile": profile,
            "tensorrt": f">= {OLDEST}",
        }
        (out / "engine.json").write_text(json.dumps(engine, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        script = out / "build-engine.sh"
        script.write_text(
            "#!/bin/sh\n# Builds model.plan where it will run: an engine fits one GPU and one TensorRT.\n"
            'set -eu\ncd "$(dirname "$0")"\nexec ' + shlex.join(command(profile, config.precision)) + ' "$@"\n',
            encoding="utf-8",
        )
        read = onnx.load(out / MODEL_FILE, load_external_data=False)
        inputs = tuple(f"{name} {low} to {high}" for name, (low, _, high) in profile.items())
        return Made(f"trtexec >= {OLDEST}", inputs, checked="rendered", operators=len(read.graph.node))


def profiles(signature: Signature, shape: Shape) -> dict[str, tuple[str, str, str]]:
    """Return input → its smallest, usual and largest shape, as trtexec writes them: tuned for all rows of half the tokens."""
    if not signature.takes_texts:
        rest = "x".join(map(str, signature.shape))
        return dict.fromkeys(signature.inputs, (f"1x{rest}", f"{shape.batch}x{rest}", f"{shape.batch}x{rest}"))
    usual = max(1, shape.tokens // 2)
    return dict.fromkeys(signature.inputs, ("1x1", f"{shape.batch}x{usual}", f"{shape.batch}x{shape.tokens}"))


def command(profile: dict[str, tuple[str, str, str]], precision: str) -> list[str]:
    """Return trtexec's command line."""
    shapes = [
        f"--{which}Shapes=" + ",".join(f"{name}:{sides[position]}" for name, sides in profile.items())
        for position, which in enumerate(("min", "opt", "max"))
    ]
    half = ["--fp16"] if precision == "fp16" else []
    return [
        "trtexec",
        f"--onnx={MODEL_FILE}",
        "--saveEngine=model.plan",
        *shapes,
        *half,
        f"--memPoolSize=workspace:{_WORKSPACE}",
        "--skipInference",
    ]
