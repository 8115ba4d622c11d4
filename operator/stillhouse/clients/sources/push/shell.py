"""The one seam between `still push` and a pod: a program that is run there, with what it reads and what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Ended", "Shell"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code and what it wrote."""

    code: int
    out: bytes = b""
    err: str = ""


class Shell(Protocol):
    """Runs programs where the claim is mounted. It has `sh` and the usual POSIX tools, and `sha256sum`."""

    def run(self, words: Sequence[str], stdin: Iterable[bytes] = ()) -> Ended:
        """Run a program until it ends. `stdin` is sent as it is read; a program must not count on an end of file.

        Raises:
            EnvironmentProblem: the connection broke off, or nothing could be run.
        """
