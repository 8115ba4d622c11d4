"""The system refuses a file: what root, as which tests often run, never meets by itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["refuse"]


def refuse(
    monkeypatch: pytest.MonkeyPatch, owner: Any, call: str, where: Callable[[Path], bool], number: int = errno.EACCES
) -> None:
    """Let `owner.call` (`Path.stat`, `io.open`, …) fail with an error of the system for every file that `where` picks."""
    real = getattr(owner, call)

    def refusing(file: Any, *arguments: Any, **options: Any) -> Any:
        if where(Path(str(file))):
            raise OSError(number, os.strerror(number), str(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr(owner, call, refusing)
