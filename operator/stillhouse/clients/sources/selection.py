"""Which files of a source are used: the only ones that are hashed, downloaded or read."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from stillhouse.clients.sources.access import refuse_odd_name
from stillhouse.errors import SourceError

__all__ = ["EXTERNAL_DATA", "PATTERNS", "UNUSED_PATHS", "USED_PATHS", "is_used", "used_files"]

EXTERNAL_DATA = (".onnx_data", ".onnx.data")
"""How the names of files end in which an ONNX graph keeps its numbers."""
PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.onnx",
    *(f"*{ending}" for ending in EXTERNAL_DATA),
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
"""Folders below the source's own."""
USED_PATHS = (*PATTERNS, *(f"*/{pattern}" for pattern in PATTERNS if not pattern.startswith("*")))
UNUSED_PATHS = (".*", "*/.*", "/".join("*" * (_DEPTH + 2)))
"""`is_used` as patterns of whole paths, whose `*` takes slashes as well: what the hub's client is told to take, and of that to
leave (hidden names, more than `_DEPTH` folders)."""


def is_used(relative: str) -> bool:
    """Say whether the file at this relative POSIX path belongs to the source."""
    *folders, name = relative.split("/")
    hidden = any(part.startswith(".") for part in (*folders, name))
    return not hidden and len(folders) <= _DEPTH and any(fnmatchcase(name, pattern) for pattern in PATTERNS)


def used_files(path: Path) -> dict[str, Path]:
    """Return relative POSIX path → file of everything that is used of a file or folder, sorted by name.

    A single file stands for itself, whatever its name; a .onnx file brings the tokenizer and the configuration beside it.
    Linked folders are not entered; linked files are listed, and judged by the pass that imports them.

    Raises:
        SourceError: the folder holds nothing that is used, or a name is not UTF-8.
        OSError: a folder cannot be read.
    """
    if path.is_file():
        files = {path.name: path}
        if path.suffix == ".onnx":
            others = (".onnx", ".csv", ".jsonl", ".parquet", ".safetensors")
            files |= {name: file for name, file in _listed(path.parent, _DEPTH, "") if not name.endswith(others)}
    else:
        files = dict(_listed(path, 0, ""))
    if not files:
        there = sorted(entry.name for entry in path.iterdir())
        raise SourceError(
            "the folder holds nothing that can be used",
            found=", ".join(there[:8]) or "an empty folder",
            allowed="safetensors with config.json and tokenizer.json, .onnx, .parquet, .jsonl or .csv",
            fix="name the folder that holds the model or the data",
        )
    for name in files:
        refuse_odd_name(name)
    return dict(sorted(files.items()))


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
