"""Training checkpoints in a step's scratch: tensors as safetensors, the rest as JSON, nothing pickled.

A checkpoint is a folder `checkpoint-<step>`, written aside, flushed and renamed: one under its final name is whole.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stillhouse.errors import EnvironmentProblem

__all__ = ["load", "load_latest", "seed_everything", "write"]

_PREFIX: Final = "checkpoint-"
_DAMAGED: Final = (OSError, ValueError, KeyError, TypeError, SafetensorError)
"""What reading a checkpoint raises that is not whole."""


def write(scratch: Path, step: int, modules: Mapping[str, nn.Module], optimizer: Any, state: Mapping[str, Any]) -> None:
    """Write the checkpoint of `step` and remove older ones.

    `modules` are stored by name, `optimizer` is a torch optimizer, `state` JSON data; the states of Python's, numpy's and
    torch's random generators go along.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in values.items()}
    tensors["random/torch"] = torch.get_rng_state()
    for index, value in enumerate(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []):
        tensors[f"random/cuda/{index}"] = value
    aside = scratch / f"tmp-{_PREFIX}{step}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(_unshared(tensors), str(aside / "tensors.safetensors"))
    numpy_state = np.random.get_state(legacy=True)
    whole = {"step": step, "state": dict(state), "python": random.getstate()}
    whole["numpy"] = [part.tolist() if isinstance(part, np.ndarray) else part for part in numpy_state]
    (aside / "state.json").write_text(json.dumps(whole), encoding="utf-8")
    for file in aside.iterdir():
        _sync(file)
    _sync(aside)
    final = scratch / f"{_PREFIX}{step}"
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    _sync(scratch)
    for old in scratch.glob(f"{_PREFIX}*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def load_latest(scratch: Path, modules: Mapping[str, nn.Module], optimizer: Any) -> tuple[int, dict[str, Any]] | None:
    """Restore the newest whole checkpoint into `modules`, `optimizer` and the random generators.

    Returns:
        Step and state that `write` was given, or None when there is nothing to go on from.
    """
    for leftover in scratch.glob(f"tmp-{_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    numbered = [path for path in scratch.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal()]
    for folder in sorted(numbered, key=lambda path: -int(path.name.removeprefix(_PREFIX))):
        try:  # all of it is read before anything is restored
            tensors, step, state, whole = _read(folder)
            version, inner, gauss = whole["python"]
            name, key, *rest = whole["numpy"]
            generator = tensors["random/torch"]
        except _DAMAGED:
            shutil.rmtree(folder, ignore_errors=True)  # a damaged disk: start from an older one, or from the beginning
            continue
        _restore(tensors, modules, optimizer)
        torch.set_rng_state(generator)
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all([v for k, v in sorted(tensors.items()) if k.startswith("random/cuda/")])
        random.setstate((version, tuple(inner), gauss))
        np.random.set_state((name, np.asarray(key, dtype=np.uint32), *rest))
        return step, state
    return None


def load(scratch: Path, step: int, modules: Mapping[str, nn.Module], optimizer: Any) -> tuple[int, dict[str, Any]]:
    """Restore another worker's checkpoint of `step` into `modules` and `optimizer`, and change nothing in `scratch`.

    Returns:
        Step and state that `write` was given.

    Raises:
        EnvironmentProblem: it is not there, or not whole.
    """
    folder = scratch / f"{_PREFIX}{step}"
    try:
        tensors, _, state, _ = _read(folder)
    except _DAMAGED as error:
        raise EnvironmentProblem(
            "a worker does not see the checkpoint that worker 0 goes on from",
            field="spec.build.workers",
            found=f"{folder}: {error}"[:300],
            allowed="one store, which all workers see",
            fix="take a claim that is ReadWriteMany, of a file system whose nodes see each other's files at once",
        ) from error
    _restore(tensors, modules, optimizer)
    return step, state


def _read(folder: Path) -> tuple[dict[str, Tensor], int, dict[str, Any], dict[str, Any]]:
    """Return the tensors of a checkpoint, its step and state, and everything that is written beside them. Raises `_DAMAGED`."""
    tensors = load_file(str(folder / "tensors.safetensors"))
    whole = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return tensors, int(whole["step"]), dict(whole["state"]), whole


def _restore(tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module], optimizer: Any) -> None:
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, part = key.split("/", 2)
            states.setdefault(int(index), {})[part] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that share no memory (tied weights do), which safetensors refuses to write."""
    seen: set[int] = set()
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        out[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    return out


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
