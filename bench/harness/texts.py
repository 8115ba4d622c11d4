"""The texts that are sent: distinct docstrings taken by AST, in a fixed order, none longer than the model reads."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.harness.errors import BenchError
from bench.harness.paths import ROOT, cache_folder

BUILT = ROOT / "examples" / "docstring-search" / "data" / "unlabelled.parquet"
SHORTEST = 20  # characters
ORDER = "stillhouse bench 1"  # changing it changes the order, and so the digest
BUCKETS = (8, 16, 32, 64, 128, 256)  # upper token counts of the histogram


@dataclass(frozen=True, slots=True)
class Texts:
    """A payload file: `count` texts, `digest` over texts and order, tokens per text as a histogram."""

    path: Path
    count: int
    digest: str
    source: str
    histogram: dict[str, int]
    mean_tokens: float

    def to_json(self) -> dict[str, object]:
        """For the result file; the path is this machine's own and stays out."""
        return {
            "count": self.count,
            "digest": self.digest,
            "source": self.source,
            "token_histogram": self.histogram,
            "mean_tokens": round(self.mean_tokens, 2),
        }


def docstrings(path: Path) -> Iterator[str]:
    """Docstrings of a file's module, classes and functions, by AST; a file that does not parse has none."""
    try:
        module = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return
    for node in ast.walk(module):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text


def standard_library() -> Iterator[str]:
    """Docstrings of the running Python's standard library; a duplicate may come more than once."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if "site-packages" not in path.relative_to(root).parts:
            yield from docstrings(path)


def _built() -> list[str]:
    import pyarrow.parquet as pq

    return [str(text) for text in pq.read_table(BUILT, columns=["text"]).column("text").to_pylist()]


def ordered(texts: Iterable[str]) -> list[str]:
    """Distinct texts of at least `SHORTEST` characters, in the order of a keyed hash: fixed, and unrelated to origin."""
    distinct = {text.strip() for text in texts}
    kept = [text for text in distinct if len(text) >= SHORTEST and _is_unicode(text)]
    return sorted(kept, key=lambda text: hashlib.sha256(f"{ORDER}\0{text}".encode()).digest())


def _is_unicode(text: str) -> bool:
    """Whether it can be sent: tests of codecs have docstrings with lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def order_digest(texts: Iterable[str]) -> str:
    """Compute the load generator's digest: SHA-256 over texts, each after its length in 8 bytes little-endian."""
    hashed = hashlib.sha256()
    for text in texts:
        data = text.encode()
        hashed.update(len(data).to_bytes(8, "little"))
        hashed.update(data)
    return "sha256:" + hashed.hexdigest()


def histogram(lengths: Iterable[int]) -> dict[str, int]:
    """Texts per range of token counts."""
    counts = dict.fromkeys(BUCKETS, 0)
    for length in lengths:
        counts[next(bound for bound in BUCKETS if length <= bound)] += 1
    return {f"<={bound}": count for bound, count in counts.items()}


def prepare(tokenizer_file: Path, max_tokens: int, limit: int) -> Texts:
    """Write the payload file and say what is in it.

    The example's data set (`examples/docstring-search/build_data.py`) is used when it has been built, else the standard
    library of the running Python. Longer texts than `max_tokens` (special tokens counted) are left out, so that the sides'
    truncation cannot differ.

    Raises:
        BenchError: fewer than 1,000 texts were found.
    """
    from tokenizers import Tokenizer

    if BUILT.exists():
        source, found = "docstring-search/unlabelled.parquet", ordered(_built())
    else:
        source = f"standard library of Python {platform.python_version()}"
        found = ordered(standard_library())
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    kept: list[str] = []
    lengths: list[int] = []
    for start in range(0, len(found), 1000):
        batch = found[start : start + 1000]
        for text, encoding in zip(batch, tokenizer.encode_batch_fast(batch), strict=True):
            if len(encoding.ids) <= max_tokens and len(kept) < limit:
                kept.append(text)
                lengths.append(len(encoding.ids))
        if len(kept) >= limit:
            break
    if len(kept) < 1000:
        raise BenchError(f"only {len(kept)} texts found in {source}; build examples/docstring-search's data first")
    digest = order_digest(kept)
    path = cache_folder() / f"texts-{digest.removeprefix('sha256:')[:12]}.jsonl"
    path.write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in kept), encoding="utf-8")
    return Texts(path, len(kept), digest, source, histogram(lengths), sum(lengths) / len(lengths))
