"""What kind of network a folder holds: config.json, the Sentence Transformers layout, and whether the weights fit them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stillhouse.errors import MissingPackages, SourceError
from stillhouse.extras import install
from stillhouse.inference.signature import Signature
from stillhouse.passes.models.architecture import Architecture
from stillhouse.passes.sources.folder import SourceFolder, copy_file, read_json
from stillhouse.passes.sources.labels import check_answer, headless
from stillhouse.passes.sources.numbers import check_numbers
from stillhouse.passes.sources.tokenizer import refuse_code
from stillhouse.passes.sources.weights import Tensor

__all__ = ["Pooling", "check_tensors", "own_max_length", "pooling_of", "read_config", "write_config"]

_POOLINGS: dict[str, Literal["mean", "cls"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_cls_tokens": "cls",
}
_POSITIONS_AFTER_PAD = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"})
"""Families whose positions begin after the padding index: RoBERTa's `create_position_ids_from_input_ids`."""


@dataclass(frozen=True, slots=True)
class Pooling:
    """How token states become one vector: `mean` (masked) or `cls`; `normalize` says the source divides by the L2 norm."""

    mode: Literal["mean", "cls"]
    normalize: bool


def read_config(folder: SourceFolder) -> dict[str, Any]:
    """Read config.json.

    Raises:
        UnsafeSource: it asks for the model's own code.
        SourceError: it is missing, not readable, has no model_type, counts something by what is no number, or describes
            weights that are quantized already.
    """
    config = read_json(folder.path("config.json"), "config.json")
    refuse_code(config, "config.json")
    if not isinstance(config.get("model_type"), str):
        raise SourceError(
            "config.json does not say which architecture this is",
            field="source.uri: config.json: model_type",
            found=str(config.get("model_type"))[:100],
            allowed="an architecture of transformers, for example bert",
            fix="take config.json from the same model as the weights",
        )
    if config.get("quantization_config"):
        raise SourceError(
            "the weights are quantized already",
            field="source.uri: config.json: quantization_config",
            found=str(config["quantization_config"])[:100],
            allowed="weights in float32, float16 or bfloat16",
            fix="start from the model that was quantized; compress.precision says what to make of it",
        )
    check_numbers(config)
    return config


def write_config(folder: SourceFolder, config: Mapping[str, Any], out: Path) -> None:
    """Write config.json, which was read as `config`, to `out`: as it is, unless texts would have to have certain lengths.

    `chunk_size_feed_forward` spares memory, changes no result, and refuses every length that is no multiple of it.
    """
    if not config.get("chunk_size_feed_forward"):
        copy_file(folder.path("config.json"), out / "config.json")
        return
    data = json.dumps({**config, "chunk_size_feed_forward": 0}, indent=1, sort_keys=True)
    (out / "config.json").write_text(data + "\n", encoding="utf-8")


def pooling_of(folder: SourceFolder) -> Pooling:
    """Read the Sentence Transformers layout (modules.json, N_Pooling/config.json); a plain encoder is pooled by the mean.

    Raises:
        SourceError: another pooling than mean or cls, or a module between encoder and output that is not understood.
    """
    if not folder.has("modules.json"):
        return Pooling("mean", normalize=True)
    try:
        modules = json.loads(folder.path("modules.json").read_bytes())
        kinds = [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in modules]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SourceError("modules.json cannot be read", field="source.uri", found=str(error)[:200]) from error
    mode: Literal["mean", "cls"] = "mean"
    for kind, path in kinds:
        if kind == "Pooling":
            mode = _pooling_mode(read_json(folder.path(f"{path}/config.json"), f"{path}/config.json"), path)
        elif kind not in ("Transformer", "Normalize"):
            raise SourceError(
                "the model has a module that is not understood",
                field="source.uri: modules.json",
                found=kind[:100],
                allowed="Transformer, Pooling, Normalize",
                fix="export the whole model to ONNX with one output sentence_embedding and name the .onnx file",
            )
    return Pooling(mode, any(kind == "Normalize" for kind, _ in kinds))


def own_max_length(folder: SourceFolder, config: Mapping[str, Any]) -> tuple[int, int]:
    """Return (the length that the model was published with, the longest that its positions allow), in tokens.

    The first is at most the second; without any statement both are 512.

    Raises:
        SourceError: the positions that the padding's id takes leave none.
    """
    positions = config.get("max_position_embeddings")
    hard = int(positions) if isinstance(positions, int) and positions > 0 else 512
    if config.get("model_type") in _POSITIONS_AFTER_PAD:
        hard -= int(config.get("pad_token_id") or 0) + 1
    if hard < 1:
        raise SourceError(
            "the model has no positions for tokens: they begin after the padding's id",
            field="source.uri: config.json: max_position_embeddings",
            found=f"{positions}, pad_token_id {config.get('pad_token_id')}",
            allowed="more than pad_token_id + 1",
            fix="take config.json and the weights from the same model and revision",
        )
    own = hard
    for name, key in (("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")):
        if folder.has(name):
            value = read_json(folder.path(name), name).get(key)
            if isinstance(value, int | float) and 1 <= value <= hard:
                own = int(value)
    return own, hard


def check_tensors(out: Path, architecture: Architecture, signature: Signature, tensors: Mapping[str, Tensor]) -> None:
    """Hold the weights' names and shapes against the network, built without memory (torch's meta device).

    `out` holds config.json. Names may carry the base model's prefix or not; a pooler is not needed by an encoder, whose
    pooling is its own.

    Raises:
        SourceError: tensors are missing, have another shape or are not finite, or the network cannot be built.
        MissingPackages: torch or transformers is not installed.
    """
    expected, prefix = _expected(out, architecture, signature)
    have = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    # BERT's first checkpoints call LayerNorm's parameters gamma and beta.
    have |= {name.replace(".gamma", ".weight").replace(".beta", ".bias"): tensor for name, tensor in list(have.items())}
    missing = [name for name in expected if name.removeprefix(prefix) not in have]
    if missing:
        lacking = f"{len(missing)} of {len(expected)} missing: {', '.join(missing[:4])}"
        if architecture.kind == "hf-classifier" and any(not name.startswith(prefix) for name in missing):
            raise headless(lacking)
        raise SourceError(
            "the weights lack tensors of the architecture",
            field="source.uri",
            found=lacking,
            allowed="all tensors of the architecture that config.json or the factory describes",
            fix="take the weights and their configuration from the same model and revision",
        )
    for name, shape in expected.items():
        found = have[name.removeprefix(prefix)]
        if found.shape != shape:
            raise SourceError(
                "a tensor has another shape than the architecture's",
                field=f"source.uri: {name}",
                found=str(list(found.shape)),
                allowed=str(list(shape)),
                fix="take the weights and their configuration from the same model and revision",
            )
    for name in expected:
        if not have[name.removeprefix(prefix)].finite:
            raise SourceError(
                f"the weights are broken: {name} holds what is no number, or infinity",
                field="source.uri",
                found=f"NaN or infinity in {name}",
                allowed="finite numbers",
                fix="fetch the weights again, or train the model anew: its training has diverged",
            )


def _expected(out: Path, architecture: Architecture, signature: Signature) -> tuple[dict[str, tuple[int, ...]], str]:
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingPackages(
            "importing a safetensors model needs torch and transformers",
            found=str(error),
            fix=install("build"),
        ) from error
    from stillhouse.passes.models.artifact import build

    try:
        with torch.device("meta"):
            model = build(out, architecture, signature)
            outputs = _outputs(model, signature) if architecture.factory is not None else None
    except Exception as error:  # a foreign configuration can fail anywhere inside transformers
        if architecture.kind == "factory" and isinstance(error, SourceError):
            raise
        reason = error.problem.found if isinstance(error, SourceError) else f"{type(error).__name__}: {error}"
        raise SourceError(
            "the network cannot be built from its configuration",
            field="source.uri: config.json",
            found=(reason.strip().splitlines() or ["nothing said"])[0][:300],
            allowed="an architecture of transformers that fits the task",
            fix="check source.task, or export the model to ONNX and name the .onnx file",
        ) from error
    if architecture.factory is not None and outputs is not None:
        check_answer(signature.labels, signature.dimension, outputs, architecture.factory.target)
    base = str(getattr(model, "base_model_prefix", "") or "")
    parameters = dict(model.named_parameters(remove_duplicate=architecture.kind != "factory"))
    shapes = {name: tuple(value.shape) for name, value in parameters.items()}
    if architecture.projection is not None:
        width = getattr(model.config, "hidden_size", None) or model.config.dim
        shapes[f"{architecture.head}.weight"] = (architecture.projection, int(width))
    return shapes, f"{base}." if base else ""


def _outputs(model: Any, signature: Signature) -> int | None:
    """Return how wide the answer of a factory's network is; None where only real numbers would tell."""
    import torch

    ids = torch.ones(2, 4, dtype=torch.int64)
    example = (ids, ids) if signature.takes_texts else (torch.zeros(2, *signature.shape),)
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(*example).shape)
    except Exception:  # a user's code, which may look at the numbers: there are none yet
        return None
    return int(shape[1]) if len(shape) == 2 else None


def _pooling_mode(config: dict[str, Any], path: str) -> Literal["mean", "cls"]:
    named = config.get("pooling_mode")  # newer releases write one name, older ones a flag per mode
    flags = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    on = [named] if isinstance(named, str) else flags
    modes = [mode if mode.startswith("pooling_mode_") else f"pooling_mode_{mode}_tokens" for mode in map(str, on)]
    if len(modes) == 1 and modes[0] in _POOLINGS:
        return _POOLINGS[modes[0]]
    raise SourceError(
        "this pooling is not supported",
        field=f"source.uri: {path}/config.json",
        found=", ".join(mode.removeprefix("pooling_mode_") for mode in modes) or "none",
        allowed="mean, cls",
        fix="use a model with mean or cls pooling, or export it to ONNX with its pooling inside",
    )
