"""The rivals of `bench-compress`: their environments, and the models that they make (`bench/peers/quantizers.py`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.harness.errors import BenchError
from stillhouse.digests import content_hash
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE

PEERS = Path(__file__).parent / "peers"
SCRIPT = PEERS / "quantizers.py"
RIVALS = ("onnxruntime", "optimum", "neural-compressor")
MODES = ("dynamic", "static")
LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Made:
    """What a tool made: a folder with `model.onnx`, or why there is none."""

    name: str
    folder: Path
    seconds: float
    error: str = ""


def token_rows(folder: Path, signature: Signature, texts: Sequence[str], target: Path) -> Path:
    """Write the calibration texts as the tools read them: an .npz of token ids, each input int64 [texts, tokens]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=signature.max_length)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max())), signature.pad_id, dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    np.savez(target, lengths=lengths, **{name: inputs[name] for name in signature.inputs})
    return target


def python_of(tool: str) -> str:
    """Give the Python that has the tool: the project's own, or an environment that is installed when it is missing.

    Raises:
        BenchError: it cannot be installed.
    """
    if tool == "onnxruntime":
        return sys.executable
    uv = Path(sys.executable).with_name("uv")
    found = {"UV": str(uv)} if uv.exists() else {}
    script = PEERS / "install-quantizer.sh"
    environment = {**os.environ, **found, "PYTHON": sys.executable}
    done = subprocess.run([str(script), tool], check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{script.name} {tool} failed: {done.stderr[-300:].strip()}")
    return done.stdout.split()[-1]


def make_rivals(tool: str, model: Path, rows: Path, folder: Path) -> Iterator[Made]:
    """Yield what a tool makes of `model`, dynamic and static; made before of the same file, rows and script: as it is kept."""
    try:
        python, error = python_of(tool), ""
    except BenchError as failed:
        python, error = "", str(failed)
    lock = PEERS / f"{tool}-requirements.txt"
    identity = [path.read_bytes().hex() if path.exists() else "" for path in (rows, SCRIPT, lock)]
    key = content_hash([str(model.resolve()), *identity])[-12:]
    for mode in MODES:
        name = f"{tool}-{mode}"
        target = folder / f"{name}-{key}"
        if error:
            yield Made(name, target, 0.0, error)
            continue
        if not (target / "made.json").is_file():
            _make([python, "-I", str(SCRIPT), tool, mode, str(model)], rows, target)
        kept = json.loads((target / "made.json").read_text("utf-8"))
        yield Made(name, target, kept["seconds"], kept["error"])


def _make(command: Sequence[str], rows: Path, target: Path) -> None:
    print(f"{target.name} ...", file=sys.stderr, flush=True)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    out, start, error = target / "model.onnx", time.monotonic(), ""
    try:
        done = subprocess.run([*command, str(rows), str(out)], check=False, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode or not out.is_file():
            error = (done.stderr.strip() or done.stdout.strip() or f"ended with {done.returncode}").splitlines()[-1][:300]
    except subprocess.TimeoutExpired:
        error = f"not done after {LIMIT_S} s"
    made = {"seconds": time.monotonic() - start, "error": error}
    (target / "made.json").write_text(json.dumps(made) + "\n", "utf-8")
