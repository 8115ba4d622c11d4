"""The command line as a user has it: a process with a home of its own; and projects a few KB large for it to build.

The model is the ONNX file of `tiny_model`, so no step needs torch and a whole build takes seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from tests.support.source_folders import write_bert_folder
from tests.support.tiny_model import WORDS, write_tiny_model

__all__ = ["LABELS", "Project", "Started", "servers_below", "write_model", "write_rows"]

ROOT = Path(__file__).parents[2]
LABELS = ("no", "yes", "perhaps")
NAME = "tiny"


def write_model(folder: Path, *, task: str = "sentence-embedding", seed: int = 0, work: int = 1) -> Path:
    """Write an ONNX model as its publisher would: model.onnx, tokenizer.json, config.json."""
    write_tiny_model(folder, task=task, labels=LABELS, seed=seed, work=work)  # type: ignore[arg-type]
    (folder / "signature.json").unlink()  # ours, not a publisher's
    config: dict[str, Any] = {"max_position_embeddings": 32}
    if task != "sentence-embedding":
        config["id2label"] = {str(position): label for position, label in enumerate(LABELS)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_rows(path: Path, columns: Mapping[str, str], rows: int, *, seed: int) -> None:
    """Write JSONL. `columns` maps a name to what it holds: `text` (no two alike), `label`, `name`."""
    source, seen = random.Random(seed), set[str]()

    def text() -> str:
        while True:
            found = " ".join(source.choices(WORDS[4:], k=7))
            if found not in seen:
                seen.add(found)
                return found

    make: dict[str, Callable[[int], str]] = {
        "text": lambda _: text(),
        "label": lambda n: LABELS[n % 3],
        "name": lambda n: f"function_{n}",
    }
    lines = (json.dumps({name: make[kind](number) for name, kind in columns.items()}) for number in range(rows))
    path.write_text("".join(line + "\n" for line in lines))


@dataclass
class Started:
    """A `still` that runs in the background; its two outputs are collected line by line."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, words: str, seconds: float = 120) -> None:
        """Wait until a line holds `words`; fail when the process ends before."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, f"no {words!r} within {seconds} s:\n{self.text}"
            if self.process.poll() is not None:
                self.end()
                assert words in self.text, f"ended with {self.process.returncode}, without {words!r}:\n{self.text}"
            time.sleep(0.01)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 120) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        return code


@dataclass
class Project:
    """A folder with a model, data and `distilledmodel.yaml`, and a home for the store."""

    folder: Path
    home: Path
    cache: Path
    task: str = "sentence-embedding"
    work: int = 1
    """How much the model computes (`write_tiny_model`)."""

    @property
    def file(self) -> Path:
        return self.folder / "distilledmodel.yaml"

    def create(self, *, gate: bool = True, index: bool = True) -> Project:
        """Write everything; the gate's one limit is met by any quantisation that works."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_model(self.folder / "teacher", task=self.task, work=self.work)
        embedding = self.task == "sentence-embedding"
        write_rows(
            self.folder / "gate.jsonl",
            {"query": "text", "document": "text"} if embedding else {"text": "text", "label": "label"},
            60,
            seed=1,
        )
        write_rows(self.folder / "corpus.jsonl", {"name": "name", "text": "text"}, 40, seed=2)
        (self.folder / "stillhouse.yaml").write_text("sources:\n  models:tiny: file://./teacher\n")
        spec: dict[str, Any] = {
            "source": {"uri": "models:tiny", "task": self.task},
            "compress": {"precision": "int8"},
            "serve": {"resources": {"limits": {"cpu": "1"}}},
        }
        if gate:
            metric = {"name": "cosine", "min": "0.5"} if embedding else {"name": "agreement", "min": "0.3"}
            spec["gate"] = {
                "data": {"uri": "file://./gate.jsonl"},
                "metrics": [metric],
                "load": {"concurrency": 2, "requests": 50},
            }
        if index and embedding:
            spec["index"] = {"data": {"uri": "file://./corpus.jsonl"}}
        self.write({"apiVersion": "stillhouse.io/v1alpha1", "kind": "DistilledModel", "metadata": {"name": NAME}, "spec": spec})
        return self

    def create_distilling(self) -> Project:
        """Write everything for a student of one layer, taught by a BERT of two with random weights."""
        self.create(index=False)
        write_bert_folder(self.folder / "bert")
        write_rows(self.folder / "train.jsonl", {"text": "text"}, 400, seed=3)
        data = self.read()
        spec = data["spec"]
        spec["source"]["uri"] = "file://./bert"
        spec["compress"] = {"precision": "auto"}
        loss = {"kind": "embedding", "weight": "1"}
        spec["distill"] = {
            "student": {"hiddenLayers": 1, "init": "layers"},
            "data": {"uri": "file://./train.jsonl"},
            "stages": [{"name": "soft", "losses": [loss], "epochs": 2, "batchSize": 16, "learningRate": "0.001"}],
        }
        spec["gate"]["metrics"] = [{"name": "cosine", "min": "0.1"}]
        self.write(data)
        return self

    def read(self) -> dict[str, Any]:
        data: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return data

    def write(self, data: Mapping[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(dict(data), sort_keys=False))

    def edit(self, **spec: Any) -> None:
        """Merge keys into parts of the spec: `edit(serve={...}, gate={...})`."""
        data = self.read()
        for part, values in spec.items():
            data["spec"][part] = {**data["spec"].get(part, {}), **values}
        self.write(data)

    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("STILLHOUSE_", "XDG_"))}
        mine = {
            "STILLHOUSE_HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.cache),
            "XDG_CONFIG_HOME": str(self.folder / ".config"),
        }
        return {**inherited, **mine, "COLUMNS": "160", "PYTHONPATH": str(ROOT / "operator")}

    def start(self, *arguments: str) -> Started:
        """Start `still` in the project's folder and leave it running."""
        line = [sys.executable, "-m", "stillhouse.entrypoints.cli", *arguments]
        return Started(
            subprocess.Popen(
                line, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, start_new_session=True,
            )
        )  # fmt: skip

    def still(self, *arguments: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `still` to its end, which must be `code`."""
        line = [sys.executable, "-m", "stillhouse.entrypoints.cli", *arguments]
        done = subprocess.run(
            line, cwd=self.folder, env=self.environment(), input=stdin, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == code, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def data(self, *arguments: str) -> Any:
        """Return what a command prints as JSON."""
        return json.loads(self.still(*arguments, "-o", "json").stdout)

    def status(self) -> dict[str, Any]:
        """Return the one model's status."""
        found: list[dict[str, Any]] = self.data("status")
        assert len(found) == 1
        return found[0]

    @contextlib.contextmanager
    def cleaned(self) -> Iterator[Project]:
        """Kill every server of this home at the end, whatever the test has left."""
        try:
            yield self
        finally:
            for process in servers_below(self.home):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)


def servers_below(home: Path) -> list[psutil.Process]:
    """Return the servers (and their backends) whose command line names a folder of this home."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(f"={home}/" in word for word in words):
            found.append(process)
    return found
