"""Which machines the embedded server runs on, and what to do elsewhere: for `still doctor` and before every start."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass

from stillhouse.errors import ServerError, StillhouseError
from stillhouse.sizes import size
from stillhouse.triton.runtimes import RUNTIMES

__all__ = ["Finding", "check_platform", "require_platform"]

_GLIBC = (2, 35)
_WAY_OUT = "serve in a container of a Linux x86_64 image with glibc 2.35 or newer (Debian 12, Ubuntu 22.04)"
# The Python backend exchanges tensors through shared memory: 1 MiB at the start for each instance, growing with the batch.
_SHARED_MEMORY = 64 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `level`: ok, warning (serving works), error (it does not)."""

    level: str
    title: str
    detail: str
    fix: str = ""


def check_platform() -> list[Finding]:
    """Return what speaks for and against the embedded server on this machine; reads files, starts nothing."""
    findings = [_system(), _glibc(), _shared_memory()]
    try:
        from stillhouse.triton.locate import find

        installation = find()
        findings.append(Finding("ok", "Triton", f"{installation.binary} with a backend for this Python"))
    except StillhouseError as error:
        problem = error.problem
        findings.append(Finding("error", "Triton", f"{problem.message}: {problem.found}", problem.fix))
    runtime = RUNTIMES["triton-ort-cpu"]
    findings.append(Finding("warning", f"Triton {runtime.server_version} is old", runtime.advisory))
    return findings


def require_platform() -> None:
    """Raise where the embedded server cannot run.

    Raises:
        ServerError: naming what is missing and the way out.
    """
    for finding in (_system(), _glibc()):
        if finding.level == "error":
            raise ServerError(
                "the embedded server does not run on this machine",
                field=finding.title,
                found=finding.detail,
                allowed="Linux x86_64 with glibc 2.35 or newer",
                fix=finding.fix,
            )


def _system() -> Finding:
    machine = f"{platform.system()} {platform.machine()}"
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return Finding("ok", "platform", machine)
    return Finding("error", "platform", machine, _WAY_OUT)


def _glibc() -> Finding:
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name == "glibc" and numbers >= _GLIBC:
        return Finding("ok", "C library", f"glibc {version}")
    return Finding("error", "C library", f"{name or 'not glibc'} {version}".strip(), _WAY_OUT)


def _shared_memory() -> Finding:
    try:
        state = os.statvfs("/dev/shm")  # noqa: S108 - not a file of ours: the size of the machine's shared memory
    except OSError as error:
        return Finding("error", "shared memory", str(error), "mount a tmpfs at /dev/shm")
    free = state.f_bavail * state.f_frsize
    if free < _SHARED_MEMORY:
        fix = "docker run --shm-size=256m …, or a memory-backed emptyDir at /dev/shm"
        return Finding("error", "shared memory", f"{size(free)} free in /dev/shm", fix)
    return Finding("ok", "shared memory", f"{size(free)} free in /dev/shm")
