"""Make the INT8 file of peer (c): all-MiniLM-L6-v2 → ONNX → fused → dynamic INT8 per channel.

`python -m bench.peers.onnx_int8` prints the file's path; it is made once and kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from bench.peers.model import minilm_folder

HEADS, HIDDEN = 12, 384
RECIPE = 2  # of this file; part of the cache's name


def cache_folder() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/stillhouse/peers`, created."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "stillhouse" / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def int8_model() -> Path:
    """Path of the quantized model, made when it is missing (about 20 s)."""
    import onnxruntime
    import torch

    weights = (minilm_folder() / "model.safetensors").stat()
    key = f"{RECIPE} {weights.st_size} {torch.__version__} {onnxruntime.__version__}"
    target = cache_folder() / f"minilm-int8-{hashlib.sha256(key.encode()).hexdigest()[:12]}.onnx"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as work:
            made = _make(Path(work))
            made.rename(target)  # within one folder: other processes see the whole file or none
    return target


def _make(work: Path) -> Path:
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import AutoModel

    # torch 2.15 traces the plain attention; the fused kernel's graph is not recognised by the optimiser.
    model = AutoModel.from_pretrained(minilm_folder(), dtype=torch.float32, attn_implementation="eager").eval()

    class Hidden(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        """Last hidden states alone, with positional inputs, which the exporter needs."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            """[batch, tokens] int64 three times → float32 [batch, tokens, 384]."""
            hidden: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
            return hidden

    example = torch.ones((2, 8), dtype=torch.int64)
    plain, fused, quantized = work / "plain.onnx", work / "fused.onnx", work / "int8.onnx"
    names = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(
        Hidden().eval(),
        (example, example, torch.zeros_like(example)),
        str(plain),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in [*names, "last_hidden_state"]},
        opset_version=17,
        dynamo=False,  # only the older exporter's graphs are fused
    )
    optimize_model(str(plain), model_type="bert", num_heads=HEADS, hidden_size=HIDDEN).save_model_to_file(str(fused))
    quantize_dynamic(
        str(fused),
        str(quantized),
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Shape inference knows nothing of fused operators and gives their outputs no type.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    return quantized


if __name__ == "__main__":
    print(int8_model())
