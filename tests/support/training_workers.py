"""Workers that train together, as processes of this machine: forked off one that has imported torch and computed nothing yet."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.artifacts import artifact, context

from stillhouse.errors import StillhouseError
from stillhouse.passes.base import Artifact, Workers

__all__ = ["Training", "start"]

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["tests.support.training_workers", "stillhouse.passes.distill.train", "transformers"])


class Training:
    """One worker that trains one stage after the other."""

    def __init__(self, process: Any, said: Path) -> None:
        self._process, self._said = process, said

    @property
    def running(self) -> bool:
        return bool(self._process.is_alive())

    def kill(self) -> None:
        self._process.kill()

    def ended(self) -> tuple[int | None, str]:
        """Wait for its end; return its exit code (a signal's is negative) and last words."""
        self._process.join(250)
        return self._process.exitcode, self._said.read_text() if self._said.exists() else ""


def start(index: int, port: int, root: Path, inputs: Mapping[str, Artifact], *configs: Mapping[str, Any]) -> Training:
    """Start worker `index` of two. Of each stage, `root/STAGE` has `out`, `scratch` and each worker's facts."""
    said = root / f"said-{index}"
    root.mkdir(parents=True, exist_ok=True)
    said.unlink(missing_ok=True)
    places = {role: (str(found.path), found.kind) for role, found in inputs.items()}
    process = _FORKING.Process(target=_work, args=(index, port, str(root), places, list(configs), str(said)))
    process.start()
    return Training(process, said)


def _work(index: int, port: int, root: str, places: dict[str, tuple[str, str]], configs: Sequence[Any], said: str) -> None:
    from stillhouse.passes.distill.train import Distill

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    inputs = {role: artifact(Path(path), kind) for role, (path, kind) in places.items()}
    for config in configs:
        place = Path(root) / config["stage"]
        made = context(place)
        if index:
            made = dataclasses.replace(made, out=context(place / "other").out)
        made = dataclasses.replace(made, workers=Workers(2, index, "127.0.0.1", port, wait_s=120, silent_s=60))
        try:
            facts = Distill().run(Distill.config_type.model_validate(config), inputs, made)
        except BaseException as error:
            Path(said).write_text(str(error) if isinstance(error, StillhouseError) else traceback.format_exc())
            sys.exit(getattr(error, "exit_code", 1))
        (place / f"facts-{index}.json").write_text(json.dumps(dataclasses.asdict(facts)))
