"""The numbers of config.json, held against the weights' header before a network is built from them.

A number without bound is an endless construction (a million layers, ten million labels) or a failure far from its cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillhouse.errors import SourceError
from stillhouse.passes.sources.weights import Tensor

__all__ = ["check_numbers", "check_sizes", "table_rows", "width_of"]

_DEPTHS = (
    "num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers",
    "num_hidden_groups", "inner_group_num", "num_encoder_blocks", "depths",
)  # fmt: skip
_WIDTHS = ("hidden_size", "dim")
_SINGLE = ("vocab_size", "max_position_embeddings", "type_vocab_size", "num_labels", "pad_token_id")
"""What every family of models has once; of the others some have one per stage, or a table."""
_NUMBERS = (
    *_DEPTHS, *_WIDTHS, "num_attention_heads", "n_heads", "intermediate_size", "hidden_dim", "embedding_size", *_SINGLE,
)  # fmt: skip
_LEAST = {"type_vocab_size": 0, "num_labels": 0, "encoder_layers": 0, "decoder_layers": 0, "pad_token_id": -(1 << 31)}
"""What is no count, or may be none; everything else is at least 1."""
_TABLES = {"vocab_size": "word_embeddings", "max_position_embeddings": "position_embeddings"}
_FEW_LAYERS = 256
"""So many layers are built without a look at the weights: ALBERT's share theirs, EfficientNet counts parts of layers."""
_SAME = "take config.json and the weights from the same model and revision"
_MEND = "write the number that the model was published with"


def check_numbers(config: Mapping[str, Any], keys: Sequence[str] = _NUMBERS) -> None:
    """See that what counts something is a whole number, or a list of such where a family of models may have one per stage.

    Raises:
        SourceError: it is not, or is too small.
    """
    for key in keys:
        value, least = config.get(key), _LEAST.get(key, 1)
        single = key in _SINGLE
        if value is None or (isinstance(value, dict) and not single):  # LXMERT has a table of layers
            continue
        items = value if isinstance(value, list) and value and not single else [value]
        if not all(type(item) is int and item >= least for item in items):
            allowed = "a whole number" if key == "pad_token_id" else f"a whole number, {least} or more"
            raise _refused(key, "is not a number that a model can have", str(value)[:100], allowed, _MEND)


def check_sizes(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Hold config.json, whose numbers were checked, against the tensors that the weights' header lists.

    Only what no such weights can have is refused here; whether the rest fits is seen once the network is built.

    Raises:
        SourceError: more layers than tensors, or a table, a width or a number of labels beyond the largest tensor's.
    """
    filled = [tensor.shape for tensor in tensors.values() if 0 not in tensor.shape]
    layers = max(len(filled), _FEW_LAYERS)
    for key in _DEPTHS:
        count = _total(config.get(key))
        if count > layers:
            raise _refused(key, "is more than the weights can hold", f"{count}, {len(filled)} tensors", f"at most {layers}")
    widest = max((size for shape in filled for size in shape), default=0)
    for key in (*_WIDTHS, "num_labels"):
        value = config.get(key)
        if isinstance(value, int) and value > widest:
            raise _refused(key, "is more than the weights can hold", str(value), f"at most {widest}, the widest tensor's size")
    for key, table in _TABLES.items():
        value, rows = config.get(key), table_rows(tensors, table)
        if isinstance(value, int) and rows is not None and value > rows:
            raise _refused(key, "is more than the weights can hold", str(value), f"{rows}, the rows of {table}")


def table_rows(tensors: Mapping[str, Tensor], table: str = _TABLES["vocab_size"]) -> int | None:
    """Return the rows of an embedding table, of the smallest where there are several, None where none has that name."""
    found = (tensor.shape[0] for name, tensor in tensors.items() if f".{name}".endswith(f".{table}.weight") and tensor.shape)
    return min(found, default=None)


def width_of(config: Mapping[str, Any]) -> int:
    """Return the width of a text encoder's states.

    Raises:
        SourceError: config.json does not say it as one number.
    """
    value = next((config[key] for key in _WIDTHS if config.get(key) is not None), None)
    if isinstance(value, int):
        return value
    raise SourceError(
        "config.json does not say how wide the encoder's states are",
        field="source.uri: config.json: hidden_size",
        found=str(value)[:100],
        allowed="a whole number, 1 or more, as hidden_size (or dim)",
        fix="add hidden_size to config.json, or export the model to ONNX and name the .onnx file",
    )


def _total(value: Any) -> int:
    if isinstance(value, list):
        return sum(item for item in value if isinstance(item, int))
    return value if isinstance(value, int) else 0


def _refused(key: str, message: str, found: str, allowed: str, fix: str = _SAME) -> SourceError:
    return SourceError(f"{key} {message}", field=f"source.uri: config.json: {key}", found=found, allowed=allowed, fix=fix)
