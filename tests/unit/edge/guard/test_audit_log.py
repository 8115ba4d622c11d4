"""What happens between the loop and the file: batches, and the policies for a disk that is slow or full."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillhouse.edge.guard.audit.chain import Entry
from stillhouse.edge.guard.audit.log import AuditLog


class Disk:
    """The far side: takes entries, or fails, or makes its writer wait, as a test says."""

    def __init__(self) -> None:
        self.taken: list[Entry] = []
        self.calls: list[str] = []
        self.error: OSError | None = None
        self.sync_error: OSError | None = None
        self.open = threading.Event()
        self.open.set()
        self.closed = False

    def append(self, entries: deque[Entry]) -> None:
        self.open.wait(30)
        if self.error is not None:
            raise self.error
        self.calls.append(f"append {len(entries)}")
        self.taken += entries
        entries.clear()

    def sync(self) -> None:
        if self.sync_error is not None:
            raise self.sync_error
        self.calls.append("sync")

    def close(self) -> None:
        self.closed = True

    @property
    def numbers(self) -> list[int]:
        return [each.data["n"] for each in self.taken if each.kind == "request"]


class Times:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.open.set()


def log(disk: Disk, **options: Any) -> AuditLog:
    return AuditLog(disk, **{"linger": 0, "retry": 0.001, "clock": Times(), **options})  # type: ignore[arg-type]


def until(condition: Any) -> None:
    """Wait for the other thread."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


def test_all_of_it_in_order(disk: Disk) -> None:
    writer = log(disk)
    for number in range(5000):
        assert writer.record("request", {"n": number}) is None
    assert writer.flush(30)
    assert disk.numbers == list(range(5000))
    assert writer.close() == 0
    assert disk.closed


def test_what_comes_together_is_written_together(disk: Disk) -> None:
    disk.open.clear()
    writer = log(disk, sync="batch")
    for number in range(3000):
        writer.record("request", {"n": number})
    disk.open.set()
    assert writer.flush(30)
    assert len([call for call in disk.calls if call != "sync"]) <= 1 + 3000 / 32 + 1
    assert disk.calls.count("sync") <= 2
    writer.close()


def test_refusing_when_the_queue_is_full(disk: Disk) -> None:
    disk.open.clear()
    writer = log(disk, full="refuse", queue=10)
    writer.record("request", {"n": 0})
    until(lambda: not writer._queue)
    answers = [writer.record("request", {"n": number}) for number in range(1, 20)]
    assert [each is None for each in answers] == [True] * 10 + [False] * 9
    refusal = answers[-1]
    assert refusal is not None
    assert (refusal.status, refusal.problem.field) == ("UNAVAILABLE", "audit")
    assert refusal.retry_after is not None
    disk.open.set()
    assert writer.flush(30)
    assert writer.record("request", {"n": 11}) is None
    writer.close()
    assert disk.numbers == list(range(12))


def test_refusing_while_the_disk_takes_nothing(disk: Disk) -> None:
    disk.error = OSError(28, "No space left on device")
    writer = log(disk, full="refuse")
    writer.record("request", {"n": 0})
    until(lambda: writer.trouble)
    refusal = writer.record("request", {"n": 1})
    assert refusal is not None
    assert refusal.problem.found == "No space left on device"
    disk.error = None
    until(lambda: not writer.trouble)
    assert writer.record("request", {"n": 2}) is None
    assert writer.close() == 0
    assert disk.numbers == [0, 2]


def test_dropping_counts_and_tells_where(disk: Disk) -> None:
    disk.open.clear()
    writer = log(disk, full="drop", queue=10)
    writer.record("request", {"n": 0})
    until(lambda: not writer._queue)
    for number in range(1, 31):
        assert writer.record("request", {"n": number}) is None, "requests go on"
    assert writer.dropped == 20
    disk.open.set()
    until(lambda: not writer.waiting)
    writer.record("request", {"n": 31})
    writer.close()
    kinds = [each.data.get("n", each.kind) for each in disk.taken]
    assert kinds == [*range(11), "gap", 31]
    (gap,) = [each.data for each in disk.taken if each.kind == "gap"]
    assert gap["dropped"] == 20
    assert gap["from"] < gap["to"]


def test_a_gap_at_the_end_is_told_too(disk: Disk) -> None:
    disk.open.clear()
    writer = log(disk, full="drop", queue=1)
    for number in range(50):
        writer.record("request", {"n": number})
    disk.open.set()
    assert writer.flush(30)
    dropped = sum(each.data["dropped"] for each in disk.taken if each.kind == "gap")
    assert dropped == writer.dropped > 40
    assert len(disk.numbers) + dropped == 50
    writer.close()


def test_no_record_goes_untold_whatever_the_disk_does(disk: Disk) -> None:
    """Each is in the log, in order, or counted in a gap that stands where it is missing."""
    writer = log(disk, full="drop", queue=5)
    for number in range(4000):
        if number % 200 == 0:
            disk.error = OSError(28, "full") if (number // 200) % 2 else None
        writer.record("request", {"n": number})
    disk.error = None
    assert writer.flush(30)
    expected = 0
    for entry in disk.taken:
        if entry.kind == "gap":
            expected += entry.data["dropped"]
        else:
            assert entry.data["n"] == expected
            expected += 1
    assert expected == 4000
    writer.close()


def test_what_is_lost_at_the_end_is_counted(disk: Disk) -> None:
    writer = log(disk, full="drop")
    disk.error = OSError(5, "Input/output error")
    for number in range(7):
        writer.record("request", {"n": number})
    assert writer.close() == 7
    refusal = writer.record("request", {"n": 8})
    assert refusal is not None


@pytest.mark.parametrize("policy", ["batch", "interval", "never"])
def test_when_it_is_on_disk(disk: Disk, policy: str) -> None:
    writer = log(disk, sync=policy, interval=3600)
    for number in range(3):
        writer.record("request", {"n": number})
        until(lambda: not writer.waiting)
    if policy == "batch":
        assert writer.flush(30)
        assert [call for call in disk.calls if call != "sync"] == ["append 1"] * 3
        assert disk.calls.count("sync") == 3
    else:
        assert "sync" not in disk.calls
        assert writer.flush(30)
        assert disk.calls.count("sync") == (policy == "interval")
    writer.close()
    assert ("sync" in disk.calls) == (policy != "never")


def test_the_interval_is_held_without_another_record(disk: Disk) -> None:
    writer = log(disk, sync="interval", interval=0.01)
    writer.record("request", {"n": 0})
    until(lambda: "sync" in disk.calls)
    writer.close()


def test_a_sync_that_fails_is_told_even_if_the_next_succeeds(disk: Disk) -> None:
    disk.sync_error = OSError(5, "Input/output error")
    writer = log(disk, sync="batch")
    writer.record("request", {"n": 0})
    until(lambda: writer.trouble)
    assert writer.record("request", {"n": 1}) is not None
    disk.sync_error = None
    assert writer.flush(30)
    assert [each.kind for each in disk.taken] == ["request", "unsynced"]
    writer.close()


def test_a_folder_for_real(tmp_path: Path) -> None:
    from stillhouse.edge.guard.audit.chain import Chain
    from stillhouse.edge.guard.audit.rotation import Rotation
    from stillhouse.edge.guard.audit.verify import verify

    writer = AuditLog(Chain(tmp_path, rotation=Rotation(size=20_000, files=None)), linger=0)
    for number in range(1000):
        assert writer.record("request", {"n": number}) is None
    assert writer.close() == 0
    report = verify(tmp_path)
    assert report.whole, report.findings
    assert report.records == 1000 + 1 + report.files
    assert not report.notes
