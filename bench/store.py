"""`python -m bench.store [HOME]`: what compressing a store saves, and what it costs to load what was compressed.

HOME is a store (left out: this user's), which is only read. Each file of 256 KiB or more is compressed by Zstandard alone
and with its words' bytes put together (`clients/store/zstd.py`), at levels 3, 9 and 19 (there 8 MiB spread over the file).
Then a copy is collected (`still gc`), and the largest model that was compressed is loaded into ONNX Runtime from a cold page
cache (root; else warm): plain, unpacked first, and unpacked before.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from bench.harness.machine import machine
from bench.harness.paths import RESULTS
from bench.harness.results import table
from stillhouse.clients.store import zstd
from stillhouse.clients.store.gc import collect
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local.state import kept
from stillhouse.settings import load_settings

LEVELS = (3, 9, 19)
SMALLEST = 256 << 10
SAMPLES = 8
ROUNDS = 5
MB = 1e6


def sizes(content: bytes) -> dict[str, Any]:
    """Return the shares that are saved and the CPU seconds, by level: Zstandard alone, and the smallest of our forms."""
    found: dict[str, Any] = {"mb": round(len(content) / MB, 2)}
    blocks = [content[at : at + zstd.BLOCK] for at in range(0, len(content), zstd.BLOCK)]
    for level in LEVELS:
        squeeze = zstandard.ZstdCompressor(level=level).compress
        if level == LEVELS[-1] and len(blocks) > SAMPLES:
            blocks = [blocks[number * len(blocks) // SAMPLES] for number in range(SAMPLES)]
            content = b"".join(blocks)
        found[f"alone_{level}"] = round(1 - len(squeeze(content)) / len(content), 4)
        start = time.process_time()
        stored = [zstd.smallest(block, squeeze) for block in blocks]
        found[f"seconds_{level}"] = round(time.process_time() - start, 3)
        found[f"planes_{level}"] = round(1 - sum(len(each) for _, each in stored) / len(content), 4)
    return found


def by_file(store: LocalStore) -> list[dict[str, Any]]:
    """Return what is saved of every large file, of each (kind, name, size) once."""
    rows, seen = [], set()
    for digest in store.objects.digests():
        folder = store.objects.opened(digest)
        kind = json.loads((folder / "manifest.json").read_bytes())["kind"]
        for path in sorted(folder.rglob("*")):
            key = (kind, path.name, path.stat().st_size)
            if path.is_file() and path.stat().st_size >= SMALLEST and key not in seen:
                seen.add(key)
                content = path.read_bytes()
                precision = "int8" if path.suffix == ".onnx" and b"DynamicQuantizeLinear" in content else ""
                rows.append({"kind": kind, "file": path.name, "precision": precision, **sizes(content)})
                print(rows[-1], file=sys.stderr)
    return rows


def cold() -> bool:
    """Empty the page cache; return whether we may."""
    try:
        subprocess.run(["sync"], check=True)
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    except OSError:
        return False
    return True


def load(folder: Path) -> None:
    """Load a model as a server does."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes on a cold page cache."""
    cold()
    start = time.monotonic()
    work()
    return time.monotonic() - start


def loading(store: LocalStore, digest: str) -> dict[str, list[float]]:
    """Return seconds to load a compressed model, each way in each round."""
    found: dict[str, list[float]] = {"plain": [], "unpacked_first": [], "unpacked_before": [], "unpack_alone": []}
    load(store.objects.opened(digest))  # the libraries
    plain = store.objects.path(digest)
    aside = store.tmp / "plain"
    shutil.copytree(plain, aside)
    for _ in range(ROUNDS):
        found["plain"].append(timed(lambda: load(aside)))
        store.objects.pack(digest)
        found["unpack_alone"].append(timed(lambda: LocalStore(store.root).objects.opened(digest)))
        store.objects.pack(digest)
        found["unpacked_first"].append(timed(lambda: load(LocalStore(store.root).objects.opened(digest))))
        found["unpacked_before"].append(timed(lambda: load(LocalStore(store.root).objects.opened(digest))))
    return found


def main() -> None:
    """Measure, print, write `results/store.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", nargs="?", type=Path, default=load_settings().home)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "store"
        subprocess.run(["cp", "-a", str(given.home), str(home)], check=True)  # with its links: they decide what may rest
        store = LocalStore(home)
        rows = by_file(store)
        digests = store.objects.digests()
        before = sum(store.objects.size(digest) for digest in digests)
        start = time.process_time()
        freed = collect(store, lambda: (set(store.receipt_keys()), kept(store)[1]), rest_s=0.0)
        seconds = time.process_time() - start
        models = [each for each in freed.packed if store.objects.packed.path(each).joinpath("model.onnx" + zstd.SUFFIX).exists()]
        largest = max(models, key=store.objects.size, default="")
        result = {
            "machine": machine(),
            "command": f"python -m bench.store {given.home}",
            "cold": cold(),
            "files": rows,
            "store": {
                "objects": len(digests),
                "compressed": len(freed.packed),
                "mb": round(before / MB, 1),
                "saved_mb": round(freed.saved / MB, 1),
                "saved_share": round(freed.saved / before, 4) if before else 0.0,
                "cpu_s": round(seconds, 2),
            },
            "load_s": loading(store, largest) if largest else {},
        }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "store.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    header = ["file", "MB", *(f"L{level} alone / planes / CPU s" for level in LEVELS)]
    lines = [
        [
            f"{row['kind']} {row['file']} {row['precision']}".strip(),
            f"{row['mb']:.2f}",
            *(f"{row[f'alone_{x}']:.1%} / {row[f'planes_{x}']:.1%} / {row[f'seconds_{x}']:.2f}" for x in LEVELS),
        ]
        for row in sorted(rows, key=lambda row: -row["mb"])
    ]
    print(table(header, lines))
    print(json.dumps({"store": result["store"], "load_s": result["load_s"]}, indent=1))


if __name__ == "__main__":
    main()
