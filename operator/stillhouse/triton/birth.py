"""When a process was born, as the kernel counts: it tells a process from a later one of the same id, exactly.

The time of day will not do. The kernel keeps clock ticks since the boot; who wants seconds since the epoch adds the boot's
own time, which moves whenever somebody sets the clock, and a live server would look like another process.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["birth", "runs"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")
# Fields of /proc/PID/stat behind the program's name, which may hold spaces and brackets itself: the third is the first here.
_STATE, _START = 0, 22 - 3
_ENDED = ("Z", "X")


def birth(pid: int) -> str:
    """Return the boot and the tick in which a process was born, "" when there is no such process. A zombie is one."""
    fields = _fields(pid)
    return f"{_boot()}:{fields[_START]}" if fields else ""


def runs(pid: int, born: str) -> bool:
    """Return whether the process of that id and birth still runs; a zombie does not."""
    fields = _fields(pid)
    return bool(fields) and fields[_STATE] not in _ENDED and born == f"{_boot()}:{fields[_START]}"


def _fields(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # also ProcessLookupError: it ended while we read
        return []
    return text.rpartition(")")[2].split()


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
