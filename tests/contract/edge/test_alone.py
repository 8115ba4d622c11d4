"""Two gateways of one model that are started at the same time: one runs, and its record says which."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.tiny_model import write_tiny_model


def test_of_two_at_once_one_runs(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "edge", task="text-classification")
    edge = {"kind": "engine", "folder": str(tmp_path / "edge"), "digest": "sha256:" + "1" * 64}
    config, record = tmp_path / "gateway.json", tmp_path / "run" / "gateway.json"
    config.write_text(json.dumps({"version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"}, "edge": edge}))
    record.parent.mkdir()
    command = [sys.executable, "-m", "stillhouse.entrypoints.gateway", "--config", str(config), "--record", str(record)]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def listening(each: subprocess.Popen[str]) -> bool:
        assert each.stdout is not None
        return each.stdout.readline().startswith("listening on")

    both = [start(), start()]
    try:
        (runs,) = [each for each in both if listening(each)]
        (other,) = [each for each in both if each is not runs]
        said = other.communicate(timeout=30)[1]
        assert other.returncode == 2
        assert "a gateway of this model runs already" in said
        assert str(runs.pid) in said
        assert json.loads(record.read_text())["pid"] == runs.pid
        runs.kill()
        runs.communicate(timeout=30)
        both.append(start())
        assert listening(both[-1]), "nothing that was killed keeps its successor out"
        both[-1].terminate()
        both[-1].communicate(timeout=30)
        assert both[-1].returncode == 0
        assert not record.exists()
    finally:
        for each in both:
            each.kill()
            each.communicate()
