"""What the soak loads and rolls: two gateways, three backends behind them, and the larger model beyond."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.harness.errors import BenchError
from bench.harness.load import loadgen
from bench.harness.process import free_port
from stillhouse.inference.confidence import Calibration
from stillhouse.inference.signature import Signature

__all__ = ["LABELS", "MODEL", "OUTPUT", "Part", "Scene"]

MODEL, OUTPUT, LABELS = "soak", "PROBABILITIES", ("no", "yes", "perhaps")
DIGEST = "sha256:" + "5" * 64
START_S, POLL_S = 60.0, 0.05
COUNTED = ("stillhouse_cascade_rows", "stillhouse_cascade_away", "stillhouse_gateway_overload_refused")


class Part:
    """A process that comes and goes at one address. `probe`: URL that answers 200 once it takes calls; "": its port is open."""

    def __init__(self, name: str, port: int, command: Sequence[str], log: Path, probe: str = "") -> None:
        self.name, self.port, self.address = name, port, f"127.0.0.1:{port}"
        self._command, self._log, self._probe = list(command), log, probe
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Return whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it takes calls.

        Raises:
            BenchError: it ended, or takes too long.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + START_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > until:
                said = self._log.read_text("utf-8", "replace").splitlines()[-10:]
                raise BenchError(f"{self.name} did not start:\n" + "\n".join(said))
            time.sleep(POLL_S)

    def stop(self, patience_s: float = 40.0) -> None:
        """Ask it to end and wait: what is under way ends first.

        Raises:
            BenchError: it did not end in time, or ended by an error.
        """
        if self._process is None or not self.runs:
            return
        self._process.terminate()
        try:
            code = self._process.wait(patience_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise BenchError(f"{self.name} did not end in {patience_s:.0f} s") from error
        if code:
            raise BenchError(f"{self.name} ended with {code}")

    def kill(self) -> None:
        """End it at once, with all that is under way."""
        if self._process is not None and self.runs:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _ready(self) -> bool:
        try:
            if not self._probe:
                socket.create_connection(("127.0.0.1", self.port), 0.5).close()
                return True
            with _opener.open(self._probe, timeout=1.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Scene:
    """All parts. `figures` sums up what the gateways counted, over their lives."""

    def __init__(self, folder: Path, *, backends: int = 3) -> None:
        """Write configurations and logs below `folder`; nothing runs yet."""
        self.figures: Counter[str] = Counter()
        self.cloud = self._server("cloud", folder, "--sure=0.9")
        # Half of the small model's answers are sure: the others go on, and come back where the cloud is away.
        self.backends = [self._server(f"backend-{n}", folder, "--sure=0.5") for n in range(1, backends + 1)]
        self._metrics: dict[str, str] = {}
        self.gateways = [self._gateway(f"gateway-{n}", folder) for n in (1, 2)]

    def start(self) -> None:
        """Start all."""
        for each in self.all():
            each.start()

    def all(self) -> Iterable[Part]:
        """Return every part, those behind first."""
        return (self.cloud, *self.backends, *self.gateways)

    def read(self, gateway: Part) -> None:
        """Add what a gateway has counted in this life: call it once a life, before its end."""
        with _opener.open(self._metrics[gateway.name], timeout=10) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples if family.name in COUNTED else ():
                if sample.name == f"{family.name}_total":
                    what = sample.labels.get("leg") or sample.labels.get("policy") or ""
                    self.figures[f"{family.name.removeprefix('stillhouse_')} {what}".strip()] += int(sample.value)

    def end(self) -> None:
        """End what still runs, whatever becomes of it."""
        for each in reversed(list(self.all())):
            each.kill()

    def _server(self, name: str, folder: Path, *words: str) -> Part:
        port = free_port()
        shape = (f"--output={OUTPUT}", f"--floats={len(LABELS)}")
        return Part(name, port, [str(loadgen()), "serve", f"--listen=127.0.0.1:{port}", *shape, *words], folder / f"{name}.log")

    def _gateway(self, name: str, folder: Path) -> Part:
        port, metrics = free_port(), free_port()
        cascade = folder / "cascade"
        _write_cascade(cascade)
        config = {
            "version": 1,
            "name": MODEL,
            "listen": {"grpc": f"127.0.0.1:{port}", "metrics": f"127.0.0.1:{metrics}"},
            "edge": {
                "kind": "backends",
                "backends": {each.address: 1.0 for each in self.backends},
                "digest": DIGEST,
                "variant": "int8",
            },
            "cascade": {
                "folder": str(cascade),
                "larger": {"kind": "backends", "model": "larger", "backends": {self.cloud.address: 1.0}},
            },
            "away": {"policy": "answer"},
        }
        file = folder / f"{name}.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "stillhouse.entrypoints.gateway",
            f"--config={file}",
            "--grace=20",
            "--log-level=warning",
        ]
        self._metrics[name] = f"http://127.0.0.1:{metrics}/metrics"
        return Part(name, port, command, folder / f"{name}.log", f"http://127.0.0.1:{metrics}/readyz")


def _write_cascade(folder: Path) -> None:
    """Write an artifact as the pass `cascade` does, of a classifier whose softmax is its confidence."""
    if folder.exists():
        return
    folder.mkdir()
    Signature("text-classification", ("input_ids", "attention_mask"), "logits", len(LABELS), LABELS, max_length=32).write(folder)
    about = {
        "version": 1,
        "task": "text-classification",
        "variant": "int8",
        "digest": DIGEST,
        "calibration": Calibration("identity").to_json(),
        "threshold": 0.8,
        "outliers": None,
        "retrieval": None,
        "stages": 1,
        "solved": {},
    }
    (folder / "cascade.json").write_text(json.dumps(about), encoding="utf-8")
