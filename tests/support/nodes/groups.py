"""Control groups of the nodes, version 1 (a hierarchy for each controller) and 2 (one for all)."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["lacking", "make", "processes", "remove", "unified"]

_ROOT = Path("/sys/fs/cgroup")
_NEEDED = ("cpu", "cpuset", "memory", "pids")


def unified() -> bool:
    """Say whether this machine has version 2 only."""
    return (_ROOT / "cgroup.controllers").exists()


def lacking() -> str:
    """Return what keeps a kubelet from working with this machine's control groups; empty where nothing does."""
    if unified():
        there = (_ROOT / "cgroup.controllers").read_text().split()
    else:
        there = [each.name for each in _ROOT.iterdir()] if _ROOT.is_dir() else []
    missing = [name for name in _NEEDED if name not in there]
    if missing:
        return f"the control groups {', '.join(missing)} are not mounted at {_ROOT}"
    probe = f"stillhouse-probe-{id(missing)}"
    try:
        make(probe)
    except OSError as error:
        return (
            f"no control group can be made below {_ROOT} ({error.strerror}); a container needs --privileged and --cgroupns=host"
        )
    finally:
        remove(probe)
    return ""


def make(name: str) -> None:
    """Make a group of this name in every hierarchy: the root of a kubelet's own tree."""
    if unified():
        group = _ROOT / name
        group.mkdir(exist_ok=True)
        for place in (_ROOT, group):  # children have what the parent hands down
            (place / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in _NEEDED))
        return
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # a new group has no CPU at all
            if (group / setting).exists():
                (group / setting).write_text((hierarchy / setting).read_text())


def processes(name: str) -> set[int]:
    """Return the processes of a group and of those below it."""
    found: set[int] = set()
    for hierarchy in _hierarchies():
        for members in (hierarchy / name).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found |= {int(line) for line in members.read_text().split()}
    return found


def remove(name: str) -> None:
    """Remove a group everywhere, from the innermost out. What still has processes stays."""
    for hierarchy in _hierarchies():
        top = hierarchy / name
        folders = sorted((each for each in top.rglob("*") if each.is_dir()), key=lambda each: -len(each.parts))
        for folder in [*folders, top]:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _hierarchies() -> list[Path]:
    if unified():
        return [_ROOT]
    return [each for each in _ROOT.iterdir() if each.is_dir() and not each.is_symlink()]
