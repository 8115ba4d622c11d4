"""Which files of a folder are used: the only ones that are hashed or downloaded."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from stillhouse.errors import SourceError

__all__ = ["PATTERNS", "is_used", "used_files"]

PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.onnx",
    "*.onnx_data",
    "*.onnx.data",
    "config.json",
    "labels.json",
    "modules.json",
    "preprocessor_config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "*.csv",
    "*.jsonl",
    "*.parquet",
)
"""File names, in any folder of the source. Weights in other formats are never read, nor is code."""
_DEPTH = 5


def is_used(relative: str) -> bool:
    """Say whether the file at this relative POSIX path belongs to the source."""
    name = relative.rsplit("/", 1)[-1]
    return not any(part.startswith(".") for part in relative.split("/")) and any(fnmatchcase(name, p) for p in PATTERNS)


def used_files(path: Path) -> dict[str, Path]:
    """Return relative POSIX path → file of everything that is used of a file or folder, sorted by name.

    A single file stands for itself, whatever its name; a .onnx file brings the tokenizer and the configuration beside it.
    Linked folders are not entered; linked files are listed, and judged by the pass that imports them.

    Raises:
        SourceError: the folder holds nothing that is used.
    """
    if path.is_file():
        if path.suffix != ".onnx":
            return {path.name: path}
        beside = {
            name: file for name, file in _listed(path.parent, 0, "") if not name.endswith((".onnx", ".csv", ".jsonl", ".parquet"))
        }
        kept = {name: file for name, file in beside.items() if "/" not in name and not name.endswith(".safetensors")}
        return dict(sorted({**kept, path.name: path}.items()))
    files = dict(sorted((name, file) for name, file in _listed(path, 0, "") if is_used(name)))
    if not files:
        there = sorted(entry.name for entry in path.iterdir())
        raise SourceError(
            "the folder holds nothing that can be used",
            found=", ".join(there[:8]) or "an empty folder",
            allowed="safetensors with config.json and tokenizer.json, .onnx, .parquet, .jsonl or .csv",
            fix="name the folder that holds the model or the data",
        )
    return files


def _listed(folder: Path, depth: int, prefix: str) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for entry in sorted(folder.iterdir()):
        name = prefix + entry.name
        if entry.is_dir():
            if depth < _DEPTH and not entry.is_symlink() and not entry.name.startswith("."):
                found += _listed(entry, depth + 1, name + "/")
        elif entry.is_file() and is_used(name):
            found.append((name, entry))
    return found
