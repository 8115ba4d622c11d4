"""Locks and looks at them: a look keeps nobody out, not even for the moment that it takes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillhouse.clients.store import locks
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.locks import Busy, hold, holder


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_a_look_tells_who_builds_and_leaves_nothing(store: LocalStore) -> None:
    assert store.builder("tiny") == ""
    assert not store.root.exists()
    with store.model("tiny"):
        assert store.builder("tiny") == str(os.getpid())
        assert store.builder("other") == ""
    assert store.builder("tiny") == "", "the file is still there, with the number of the one before"


def test_a_look_only_reads(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for whoever may read the store, too."""
    with store.model("tiny"):
        pass
    real, flags = os.open, list[int]()

    def opened(path: Path, mode: int, *rest: int) -> int:
        flags.append(mode)
        return real(path, mode, *rest)

    monkeypatch.setattr(os, "open", opened)
    assert store.builder("tiny") == ""
    assert [mode & (os.O_ACCMODE | os.O_CREAT) for mode in flags] == [os.O_RDONLY]


@pytest.fixture
def looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Somebody's look that goes on at a moment of the test's choice, and ends while the other one waits."""
    handles: list[int] = []

    def look(path: Path) -> None:
        handles.append(os.open(path, os.O_RDONLY))
        fcntl.flock(handles[-1], fcntl.LOCK_SH)

    def sleep(_: float) -> None:
        while handles:
            os.close(handles.pop())

    monkeypatch.setattr(locks.time, "sleep", sleep)
    yield look
    sleep(0)


@pytest.mark.parametrize("wait", [True, False])
def test_who_comes_while_somebody_looks_has_the_lock(tmp_path: Path, looking: Callable[[Path], None], *, wait: bool) -> None:
    """`still down` beside `watch still status` said that the status command was building."""
    path = tmp_path / "lock"
    with hold(path):
        pass
    looking(path)
    told: list[str] = []
    with hold(path, wait=wait, on_wait=told.append):
        assert holder(path) == str(os.getpid())
    assert told == []


def test_who_is_really_there_is_told_after_some_looks(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path), pytest.raises(Busy) as busy, hold(path, wait=False):
        pass
    assert busy.value.holder == str(os.getpid())


def test_users_together_keep_out_only_who_wants_to_be_alone(store: LocalStore) -> None:
    with store.using(), store.using():
        assert holder(store.root / "locks" / "store.lock") is None, "nobody has it alone"
        with pytest.raises(Busy), store.alone():
            pass
    with store.alone():
        pass
