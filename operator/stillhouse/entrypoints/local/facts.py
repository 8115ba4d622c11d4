"""What can be told of a source without reading it whole: rows of data, the shape of a model. For estimates only."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from stillhouse.clients.sources.selection import used_files

__all__ = ["data_info", "model_info", "size_of"]

_QUICK = 64 << 20
"""Bytes of a file that is read to count its rows."""
SHAPE = {
    "hiddenSize": ("hidden_size", "d_model", "dim", "n_embd"),
    "layers": ("num_hidden_layers", "n_layers", "num_layers", "n_layer"),
    "vocabularySize": ("vocab_size",),
    "heads": ("num_attention_heads", "n_heads", "n_head"),
    "intermediateSize": ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff"),
}


def model_info(path: Path | None) -> dict[str, Any]:
    """Return `format` and, where the configuration tells, what `SHAPE` names."""
    if path is None:
        return {}
    if path.suffix == ".onnx" or (path.is_dir() and any(path.glob("*.onnx")) and not any(path.glob("*.safetensors"))):
        return {"format": "onnx"}
    info: dict[str, Any] = {"format": "safetensors"}
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return info
    if isinstance(config, dict):
        for name, keys in SHAPE.items():
            value = next((config[key] for key in keys if isinstance(config.get(key), int)), None)
            if value is not None:
                info[name] = value
    return info


def data_info(path: Path | None) -> dict[str, Any]:
    """Return `rows` of a Parquet file, or of a JSONL or CSV file that is quickly read; empty for others."""
    if path is None or not path.is_file():
        return {}
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            return {"rows": int(pq.read_metadata(path).num_rows)}
        if path.suffix in {".jsonl", ".ndjson"} and path.stat().st_size < _QUICK:
            with path.open("rb") as stream:
                return {"rows": sum(1 for line in stream if line.strip())}
        if path.suffix == ".csv" and path.stat().st_size < _QUICK:
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:  # a row may be of several lines
                return {"rows": max(0, sum(1 for row in csv.reader(text) if row) - 1)}
    except (OSError, ValueError, ImportError, csv.Error):
        return {}
    return {}


def size_of(path: Path) -> int:
    """Return the bytes of what is used of a file or folder."""
    return sum(each.stat().st_size for each in used_files(path).values())
