"""Helm, run on the chart of this project."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CHART", "KUBE_VERSION", "Helm"]

CHART = Path(__file__).parents[2] / "charts" / "stillhouse"
KUBE_VERSION = "1.34.4"
"""Without a cluster Helm believes in a version that it was built with."""


@dataclass(frozen=True, slots=True)
class Helm:
    """The program, with its files in a folder of its own; `kubeconfig` empty: it reaches no cluster."""

    executable: Path
    home: Path
    kubeconfig: str = ""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command; what it says is in the answer, also when it failed."""
        self.home.mkdir(parents=True, exist_ok=True)
        config = self.home / "kubeconfig"
        config.write_text(self.kubeconfig)
        config.chmod(0o600)  # else Helm warns
        kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
        places = {f"HELM_{name}_HOME": str(self.home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        environment = {**kept, **places, "HOME": str(self.home), "KUBECONFIG": str(config)}
        return subprocess.run(
            [str(self.executable), *words], env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def do(self, *words: str) -> str:
        """Run a command that must end well; return what it printed."""
        ended = self.run(*words)
        assert ended.returncode == 0, f"helm {' '.join(words)}: {ended.stderr}"
        return ended.stdout

    def render(self, values: Path, *words: str, release: str = "stillhouse", namespace: str = "stillhouse") -> str:
        """Return what the chart makes of a file of values, as text."""
        place = ["--namespace", namespace, "--kube-version", KUBE_VERSION, "--api-versions", "monitoring.coreos.com/v1"]
        return self.do("template", release, str(CHART), "--values", str(values), *place, *words)

    def objects(self, values: Path, *words: str, **place: str) -> list[dict[str, Any]]:
        """Return the same as objects."""
        return [each for each in yaml.safe_load_all(self.render(values, *words, **place)) if each]
