"""What `still doctor` looks at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from stillhouse.clients.hardware import hardware
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.findings import finding
from stillhouse.entrypoints.local.text import size
from stillhouse.entrypoints.local.verifying import verify
from stillhouse.errors import StillhouseError
from stillhouse.extras import install, lacking
from stillhouse.inference.cpu import reduce_range
from stillhouse.passes.base import Progress, SilentProgress
from stillhouse.settings import load_settings

__all__ = ["examine"]

_ALONE = {
    "gateway": "is for still edge and still ask",
    "operator": "is for a cluster (still doctor --cluster)",
}
"""Extras that are installed by themselves → what for."""
LOW_DISK = 2 << 30
PARTS = ("objects", "packed", "steps", "locks", "work", "models", "run", "tmp")


def examine(*, contents: bool = False, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Return findings as plain data: `state` (ok, warning, failed), `title`, `detail`, `fix`.

    With `contents` every stored object is read and hashed, which `progress` is told of.
    """
    findings = _parts()
    here = hardware()
    slow = reduce_range(here.isa)
    findings.append(
        finding(
            "warning" if slow else "ok",
            "CPU",
            f"{here.cpu_model}, {len(os.sched_getaffinity(0))} CPUs" + (", no VNNI: INT8 weights keep 7 bits" if slow else ""),
            "nothing to do; a CPU with AVX512-VNNI or AVX-VNNI runs INT8 faster" if slow else "",
        )
    )
    try:
        settings = load_settings(Path.cwd())
        findings.append(finding("ok", "settings", f"{len(settings.sources)} named sources"))
    except StillhouseError as error:
        findings.append(finding("failed", "settings", str(error).replace("\n", "; ")))
        return findings
    findings.append(_store(settings.home))
    if findings[-1]["state"] != "failed" and settings.home.is_dir():
        store = LocalStore(settings.home)
        try:
            with store.using():
                findings.extend(verify(store, contents=contents, progress=progress or SilentProgress()))
        except StillhouseError as error:
            findings.append(finding("failed", "stored objects", str(error).replace("\n", "; ")))
    return findings


def _parts() -> list[dict[str, Any]]:
    """Look at the packages, and at what the server needs of the machine: of an installation that has a server, or should have.

    One that has every package of a gateway or of the operator, and neither Triton nor its client, is for that alone.
    """
    if alone := next((each for each in _ALONE if _is_alone(each)), ""):
        more = f"nothing is built or served by it; that takes {install('build')}"
        return [finding("ok", f"packages of the {alone}", f"installed; this installation {_ALONE[alone]}, and {more}")]
    from stillhouse.triton.platform import check_platform

    findings = [
        finding("failed" if each.level == "error" else each.level, each.title, each.detail, each.fix) for each in check_platform()
    ]
    for extra in ("serve", "build"):
        missing = lacking(extra)
        state = "ok" if not missing else "failed" if extra == "serve" else "warning"
        detail = "installed" if not missing else "missing: " + ", ".join(missing)
        findings.append(finding(state, f"packages to {extra}", detail, install(extra)))
    return findings


def _is_alone(extra: str) -> bool:
    return not lacking(extra) and "tritonclient" in lacking("serve")


def _store(home: Path) -> dict[str, Any]:
    existing = next(folder for folder in (home, *home.parents) if os.path.lexists(folder))
    strange = next((path for path in (existing, *(home / part for part in PARTS)) if _in_the_way(path)), None)
    if strange is not None:
        fix = "move it away, or set STILLHOUSE_HOME to a folder of yours"
        return finding("failed", "store", f"{strange} is not a folder", fix)
    if not os.access(existing, os.W_OK):
        return finding("failed", "store", f"{home} cannot be written", "set STILLHOUSE_HOME to a folder of yours")
    free = shutil.disk_usage(existing).free
    if free < LOW_DISK:
        return finding("warning", "store", f"{home}, only {size(free)} free", "still gc, or set STILLHOUSE_HOME elsewhere")
    return finding("ok", "store", f"{home}, {size(free)} free")


def _in_the_way(path: Path) -> bool:
    """Say whether something stands there that is no folder: a file, or a link that leads to none."""
    try:
        return os.path.lexists(path) and not path.is_dir()
    except OSError:  # it leads where this user may not look
        return True
