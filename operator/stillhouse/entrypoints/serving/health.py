"""The probes of a serving pod: `/ready` and `/live`, answered in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable

from stillhouse.entrypoints.answering import Answering

__all__ = ["Probes"]


class Probes(Answering):
    """Listens from the start, so that a pod which takes long is seen to take long. Each question returns what is wrong, or ""."""

    def __init__(self, host: str, port: int, *, ready: Callable[[], str], live: Callable[[], str]) -> None:
        super().__init__(host, port, {"/ready": lambda: _said(ready()), "/live": lambda: _said(live())}, "probes")


def _said(wrong: str) -> tuple[int, bytes]:
    return (503 if wrong else 200), (wrong or "ok").encode()
