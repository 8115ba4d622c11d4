"""The disk queue on a real disk: killed at any moment, torn, full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.edge_queue_life import body_of

from stillhouse.edge.away.queue import DiskQueue
from stillhouse.edge.away.records import Limits, QueueError, QueueFull, QueueState, Record
from stillhouse.edge.status import Code

ROUNDS = 20
AT_ONCE = 4  # of the process's courier


def live(path: Path, name: str, chance: random.Random) -> list[tuple[str, str]]:
    """Run a process on this queue, kill it at a moment of chance, and give what it told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.edge_queue_life", str(path), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    told = b""
    lines = 0 if chance.random() < 0.2 else chance.randrange(1, 150)  # 0: while it opens the file
    try:
        while told.count(b"\n") < max(lines, 1):
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                raise AssertionError(process.stderr.read().decode())
            told += piece
    finally:
        process.kill()
        rest, _ = process.communicate()
    told += rest
    return [(word, key) for word, key in (line.split() for line in told.decode().splitlines())]


async def drain(path: Path) -> tuple[list[str], list[Record]]:
    """Give the keys that a queue still holds, and deliver them."""
    queue = await DiskQueue.open(path)
    try:
        assert queue.stand().damaged == 0
        records, _ = await queue.take(100_000)
        for each in records:
            await queue.settle(each, Code.OK)
        return [each.request.key for each in records], records
    finally:
        await queue.close()


def test_whatever_moment_it_is_killed_at_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Twenty lives on one file. What the process told survives it: what was put is delivered, what is done is not sent again."""
    chance = random.Random(7)
    path = tmp_path / "queue.sqlite3"
    events: list[tuple[str, str]] = []
    for each in range(ROUNDS):
        life = live(path, f"r{each}", chance)
        assert max(Counter(event for event in life if event[0] == "sent").values(), default=0) <= 1, "sent twice in one life"
        events += life
    left, records = asyncio.run(drain(path))
    events += [("sent", key) for key in left]
    words = Counter(word for word, _ in events)
    assert words["open"] >= ROUNDS - 1
    assert words["wrong"] == words["failed"] == 0
    assert all(each.request.body == body_of(each.request.key) for each in records)

    put = {key for word, key in events if word == "put"}
    sent = Counter(key for word, key in events if word == "sent")
    assert len(put) > 5 * ROUNDS
    assert words["done"] > ROUNDS
    assert put <= set(sent), "acknowledged and lost"
    done: set[str] = set()
    for word, key in events:
        if word == "done":
            done.add(key)
        elif word == "sent":
            assert key not in done, "sent again after its end was durable"
    again = sum(count - 1 for count in sent.values())
    assert again <= AT_ONCE * ROUNDS  # at least once: only what was under way when it was killed


async def write_in_order(path: Path, count: int) -> None:
    queue = await DiskQueue.open(path)
    for each in range(count):
        await queue.put("/infer", body_of(f"k{each:03}"), key=f"k{each:03}")
    os._exit(0)  # no closing: the log stays as it is


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a queue whose process died: the file and its log, with a checkpoint in between."""
    folder = tmp_path_factory.mktemp("left")
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(write_in_order(folder / "queue.sqlite3", 300))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (folder / "queue.sqlite3-wal").stat().st_size > 100_000
    return folder


@pytest.mark.parametrize("how", ["cut", "zeros", "noise"])
def test_a_log_with_a_torn_tail_is_read_up_to_the_tear(left_behind: Path, tmp_path: Path, how: str) -> None:
    """What a power cut may leave of what was not synced yet. In front of the tear all is there, in order and whole."""
    chance = random.Random(how)
    found_counts = []
    for number in range(12):
        folder = tmp_path / str(number)
        shutil.copytree(left_behind, folder)
        log = folder / "queue.sqlite3-wal"
        data = bytearray(log.read_bytes())
        at = chance.randrange(len(data))
        if how == "cut":
            del data[at:]
        else:
            data[at:] = bytes(len(data) - at) if how == "zeros" else chance.randbytes(len(data) - at)
        log.write_bytes(data)
        keys, records = asyncio.run(drain(folder / "queue.sqlite3"))
        assert keys == [f"k{each:03}" for each in range(len(keys))]
        assert all(each.request.body == body_of(each.request.key) for each in records)
        found_counts.append(len(keys))
    assert len(set(found_counts)) > 1  # the tears did cost something
    shutil.copytree(left_behind, tmp_path / "whole")
    assert len(asyncio.run(drain(tmp_path / "whole" / "queue.sqlite3"))[0]) == 300


def test_another_process_is_kept_out_as_long_as_the_first_one_lives(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite3"
    ours = "import asyncio, sys, pathlib; from stillhouse.edge.away.queue import DiskQueue; "
    ours += "asyncio.run(DiskQueue.open(pathlib.Path(sys.argv[1])))"

    def other() -> str:
        return subprocess.run([sys.executable, "-c", ours, str(path)], capture_output=True, text=True, check=False).stderr

    async def main() -> None:
        queue = await DiskQueue.open(path)
        assert "belongs to another process" in other()
        with pytest.raises(QueueError):
            await DiskQueue.open(path)  # whoever tries it in this process must not take the lock away
        assert "belongs to another process" in other()
        await queue.put("/infer", b"x")
        await queue.close()
        assert other() == ""

    asyncio.run(main())


def test_every_commit_is_synced(tmp_path: Path) -> None:
    async def main() -> None:
        queue = await DiskQueue.open(tmp_path / "queue.sqlite3")
        for pragma, value in (("synchronous", 2), ("journal_mode", "wal"), ("locking_mode", "exclusive")):
            assert await queue._writer.ask(
                lambda name=pragma: queue._ledger.db.execute(f"PRAGMA {name}").fetchone(), writes=False
            ) == (value,)
        await queue.close()

    asyncio.run(main())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill_up(path: Path) -> None:
    """Take all that is left of a file system."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as out:
        while out.write(bytes(4096)):
            pass


async def put_until_full(queue: DiskQueue, name: str = "b") -> list[str]:
    """Put requests, eight at a time, until one is refused; give the acknowledged ones."""
    kept: list[str] = []
    for batch in range(10_000):
        keys = [f"{name}-{batch:04}.{each}" for each in range(8)]
        results = await asyncio.gather(*(queue.put("/infer", body_of(key), key=key) for key in keys), return_exceptions=True)
        kept += [key for key, each in zip(keys, results, strict=True) if not isinstance(each, BaseException)]
        errors = [each for each in results if isinstance(each, BaseException)]
        if errors:
            assert {type(each) for each in errors} == {QueueFull}
            assert {each.code for each in errors if isinstance(each, QueueFull)} == {Code.RESOURCE_EXHAUSTED}
            return kept
    raise AssertionError("never full")


async def end_all_on_a_full_disk(queue: DiskQueue) -> int:
    """Take everything and end it with long answers; give how many ends could not be written."""
    records, _ = await queue.take(100_000)
    unwritten = 0
    for each in records:
        try:
            await queue.settle(each, Code.OK, "", bytes(11_000))  # all of them: 5.5 MB, of which a fourth finds no room
        except QueueFull:
            unwritten += 1
    assert await queue.take(10) == ([], None)
    return unwritten


SMALL = Limits(record_bytes=65536)


def test_a_queue_that_has_filled_its_own_disk_empties_itself(small_disk: Path) -> None:
    """Nobody else frees anything: what is delivered must make room, without which nothing would ever be put again."""

    async def main() -> None:
        queue = await DiskQueue.open(small_disk / "queue.sqlite3", SMALL)
        for round_ in range(3):
            kept = await put_until_full(queue, f"r{round_}")
            assert len(kept) > 500
            assert queue.stand().waiting == len(kept)
            records, _ = await queue.take(100_000)
            assert len(records) == len(kept)
            for each in records:
                await queue.settle(each, Code.OK)
                await queue.forget("", each.request.key)
            assert queue.stand().unsaved == queue.stand().waiting == 0
        await queue.close()

    asyncio.run(main())


def test_a_full_disk_is_an_answer_and_ends_are_written_once_there_is_room(small_disk: Path) -> None:
    path = small_disk / "queue.sqlite3"

    async def main() -> tuple[list[str], int]:
        queue = await DiskQueue.open(path, SMALL)
        (small_disk / "ballast").write_bytes(bytes(3 * 2**20))
        kept = await put_until_full(queue)
        assert len(kept) > 100
        assert queue.stand().waiting == len(kept)
        unwritten = await end_all_on_a_full_disk(queue)
        assert queue.stand().unsaved == unwritten
        (small_disk / "ballast").unlink()
        await queue.sweep()
        assert queue.stand().unsaved == queue.stand().waiting == queue.stand().in_delivery == 0
        await queue.close()
        return kept, unwritten

    async def after(kept: list[str]) -> None:
        queue = await DiskQueue.open(path, SMALL)
        assert await queue.take(10) == ([], None)
        states = {(await queue.outcome("", key)).state for key in kept}
        assert states == {QueueState.DELIVERED}
        await queue.close()

    kept, unwritten = asyncio.run(main())
    assert unwritten > 0
    asyncio.run(after(kept))


def test_a_disk_that_is_full_at_the_start_is_an_answer_and_later_it_works(small_disk: Path) -> None:
    async def main() -> None:
        fill_up(small_disk / "ballast")
        with pytest.raises(QueueFull):
            await DiskQueue.open(small_disk / "queue.sqlite3", SMALL)
        (small_disk / "ballast").unlink()
        queue = await DiskQueue.open(small_disk / "queue.sqlite3", SMALL)
        await queue.put("/infer", b"x")
        await queue.close()

    asyncio.run(main())


def test_the_file_has_a_largest_size_of_its_own(tmp_path: Path) -> None:
    """Also where nobody may mount anything: SQLite's own bound gives the same error as a full disk."""

    async def main() -> list[str]:
        queue = await DiskQueue.open(tmp_path / "queue.sqlite3", Limits())
        await queue._writer.ask(lambda: queue._ledger.db.execute("PRAGMA max_page_count = 300").fetchall())
        kept = await put_until_full(queue)
        with pytest.raises(QueueFull):
            await queue.put("/infer", bytes(2**20), key="large")
        assert queue.stand().waiting == len(kept)
        await queue.close()
        return kept

    kept = asyncio.run(main())
    keys, _ = asyncio.run(drain(tmp_path / "queue.sqlite3"))
    assert sorted(keys) == sorted(kept)


def test_one_request_that_finds_no_room_does_not_take_the_others_of_its_transaction_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        queue = await DiskQueue.open(tmp_path / "queue.sqlite3")
        await queue._writer.ask(lambda: queue._ledger.db.execute("PRAGMA max_page_count = 100").fetchall())
        bodies = [b"small", bytes(2**19), b"small", b"small"]
        results = await asyncio.gather(*(queue.put("/infer", body) for body in bodies), return_exceptions=True)
        assert [isinstance(each, QueueFull) for each in results] == [False, True, False, False]
        assert queue.stand().waiting == queue.stand().accepted == 3
        await queue.close()

    asyncio.run(main())


def test_a_folder_that_is_none_is_an_answer(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    async def main() -> None:
        folder.write_text("not a folder")
        with pytest.raises(QueueError, match="UNAVAILABLE"):
            await DiskQueue.open(folder / "queue.sqlite3")
        folder.unlink()
        queue = await DiskQueue.open(folder / "queue.sqlite3")
        await queue.put("/infer", b"x")
        await queue.close()

    asyncio.run(main())
