"""The audit log's files: torn by a kill, rotated, removed, on a full disk, held by another process."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from stillhouse.edge.guard.audit import chain as module
from stillhouse.edge.guard.audit.chain import Chain, Entry
from stillhouse.edge.guard.audit.files import being_written, listing
from stillhouse.edge.guard.audit.records import Key
from stillhouse.edge.guard.audit.rotation import Rotation
from stillhouse.edge.guard.audit.verify import Report, verify
from stillhouse.errors import StoreError

ROOT = Path(__file__).parents[3]
KEY = Key(b"0123456789abcdef0123456789abcdef")
START = 1_790_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def write(folder: Path, count: int, clock: Clock | None = None, start: int = 0, **rotation: Any) -> tuple[int, str]:
    clock = clock or Clock()
    chain = Chain(folder, key=KEY, rotation=Rotation(**rotation), clock=clock)
    for number in range(start, start + count):
        chain.append(deque([Entry(clock.now, "request", {"n": number})]))
    chain.close()
    return chain.head


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in listing(folder) for line in file.read_bytes().splitlines()]


def numbers(folder: Path) -> list[int]:
    return [each["data"]["n"] for each in records(folder) if each["kind"] == "request"]


def whole(folder: Path, **options: Any) -> Report:
    report = verify(folder, key=KEY, **options)
    assert report.whole, report.findings
    return report


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "a/log"
    head = write(folder, 3)
    write(folder, 3, start=3)
    assert numbers(folder) == list(range(6))
    assert [each["kind"] for each in records(folder)].count("start") == 2
    whole(folder, expect=head)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert listing(folder)[0].stat().st_mode & 0o777 == 0o600


def test_torn_at_every_byte_of_the_last_records(tmp_path: Path) -> None:
    """Whatever a kill leaves of a write: what was whole stays, the rest is cut off, and a record says so."""
    write(tmp_path, 3)
    (file,) = listing(tmp_path)
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    for length in range(len(content)):
        file.write_bytes(content[:length])
        kept = content[:length].count(b"\n")
        torn = length - sum(map(len, lines[:kept]))
        assert verify(tmp_path, key=KEY).whole == (torn == 0 and kept > 0)
        write(tmp_path, 1, start=100)
        assert len(listing(tmp_path)) == 1
        now = records(tmp_path)
        assert [line + b"\n" for line in file.read_bytes().splitlines()][:kept] == lines[:kept]
        told = [each["data"] for each in now if each["kind"] == "recovered"]
        expected = [(file.name, torn)] if torn or not kept else []
        assert [(each["file"], each["bytes"]) for each in told] == expected
        assert numbers(tmp_path)[-1] == 100
        whole(tmp_path)


def test_torn_at_every_byte_of_a_file_that_was_just_begun(tmp_path: Path) -> None:
    write(tmp_path, 12, size=1500)
    *_, before, file = listing(tmp_path)
    first = file.read_bytes().splitlines(keepends=True)[0]
    kept = before.read_bytes()
    for length in range(len(first)):
        file.write_bytes(first[:length])
        before.write_bytes(kept)
        write(tmp_path, 1, start=100, size=1500)
        assert [each["data"]["bytes"] for each in records(tmp_path) if each["kind"] == "recovered"] == [length]
        whole(tmp_path)
        for later in listing(tmp_path):
            if later.name > before.name:
                later.unlink()


def test_a_long_torn_end_without_a_newline(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (file,) = listing(tmp_path)
    with file.open("ab") as stream:
        stream.write(b"\0" * 5_000_000)
    write(tmp_path, 1, start=3)
    assert numbers(tmp_path) == [0, 1, 2, 3]
    assert file.stat().st_size < 10_000
    whole(tmp_path)


@pytest.mark.parametrize("damage", [b'{"not": "a record"}\n', b"\n", b"\0" * 50 + b"\n"])
def test_a_last_line_that_is_whole_and_no_record_is_nobodys_torn_end(tmp_path: Path, damage: bytes) -> None:
    write(tmp_path, 3)
    (file,) = listing(tmp_path)
    with file.open("ab") as stream:
        stream.write(damage)
    content = file.read_bytes()
    with pytest.raises(StoreError, match="damaged"):
        write(tmp_path, 1)
    assert file.read_bytes() == content, "nothing of it is touched"


def test_another_key_or_none(tmp_path: Path) -> None:
    write(tmp_path, 1)
    for key in (None, Key(b"another key that is long enough")):
        with pytest.raises(StoreError):
            Chain(tmp_path, key=key)
    Chain(tmp_path / "bare").close()
    with pytest.raises(StoreError, match="without a key"):
        Chain(tmp_path / "bare", key=KEY)


# rotation -------------------------------------------------------------------------------------------------------------


def test_rotation_by_size(tmp_path: Path) -> None:
    write(tmp_path, 100, size=4000, files=None)
    files = listing(tmp_path)
    assert len(files) > 5
    assert all(4000 <= file.stat().st_size < 4600 for file in files[:-1])
    for file in files:
        first = json.loads(file.read_bytes().splitlines()[0])
        assert (first["kind"], file.name) == ("file", f"audit-{first['seq']:016}.jsonl")
    assert numbers(tmp_path) == list(range(100))
    whole(tmp_path)


def test_a_batch_is_split_over_files(tmp_path: Path) -> None:
    chain = Chain(tmp_path, key=KEY, rotation=Rotation(size=4000, files=None), clock=Clock())
    chain.append(deque(Entry(START, "request", {"n": number}) for number in range(100)))
    chain.close()
    assert all(4000 <= file.stat().st_size < 4600 for file in listing(tmp_path)[:-1])
    assert numbers(tmp_path) == list(range(100))
    whole(tmp_path)


def test_rotation_by_age_also_of_a_log_that_was_opened_again(tmp_path: Path) -> None:
    clock = Clock()
    write(tmp_path, 2, clock, age=60)
    clock.now += 59
    write(tmp_path, 1, clock, start=2, age=60)
    assert len(listing(tmp_path)) == 1
    clock.now += 1
    write(tmp_path, 1, clock, start=3, age=60)
    assert len(listing(tmp_path)) == 2
    whole(tmp_path)


def test_a_clock_that_jumps_back_stops_nothing_and_is_told(tmp_path: Path) -> None:
    clock = Clock()
    chain = Chain(tmp_path, key=KEY, rotation=Rotation(size=2000, age=60, kept=3600), clock=clock)
    for number in range(30):
        chain.append(deque([Entry(clock.now, "request", {"n": number})]))
        clock.now -= 86_400
    chain.close()
    assert numbers(tmp_path)[-1] == 29
    assert whole(tmp_path).notes[-1].startswith("the clock was set back")


def test_the_oldest_files_go_and_the_rest_can_be_verified(tmp_path: Path) -> None:
    head = write(tmp_path, 300, size=3000, files=4)
    assert len(listing(tmp_path)) == 4
    report = whole(tmp_path, expect=head)
    assert report.first is not None
    assert report.first.seq > 200
    assert f"records 1 to {report.first.seq - 1} were removed" in report.notes[0]
    oldest, *_ = listing(tmp_path)
    oldest.unlink()
    (finding,) = verify(tmp_path, key=KEY).findings
    assert "no record says that they were removed" in finding.what


def test_old_records_go_by_age(tmp_path: Path) -> None:
    clock = Clock()
    for day in range(10):
        clock.now = START + 86_400 * day
        write(tmp_path, 2, clock, start=2 * day, age=3600, kept=3 * 86_400)
    times = {each["time"][:10] for each in records(tmp_path)}
    assert len(times) in (4, 5)
    whole(tmp_path)


def test_killed_while_old_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is there first: whatever was deleted by then, the rest is whole, and the next start deletes what is left."""
    write(tmp_path, 60, size=2000, files=None)
    unlink = Path.unlink
    for deleted in range(3):
        left = [deleted]

        def dying(self: Path, missing_ok: bool = False, left: list[int] = left) -> None:
            if not left[0]:
                raise OSError(errno.EIO, "killed")
            left[0] -= 1
            unlink(self, missing_ok)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", dying)
            with pytest.raises(StoreError):
                write(tmp_path, 1, size=2000, files=3)
        whole(tmp_path)
    write(tmp_path, 1, size=2000, files=3)
    assert len(listing(tmp_path)) == 3
    whole(tmp_path)


def test_a_damaged_file_is_evidence_and_stays(tmp_path: Path) -> None:
    write(tmp_path, 60, size=2000, files=None)
    second = listing(tmp_path)[1]
    second.write_bytes(b"x" + second.read_bytes()[1:])
    write(tmp_path, 30, start=60, size=2000, files=2)
    assert second.exists()


# disks and processes --------------------------------------------------------------------------------------------------


def test_every_write_may_fail_and_nothing_is_lost_or_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes a part of a write and then no more, now and then not even a truncation."""
    real_write, real_truncate = os.write, os.ftruncate
    dice = random.Random(20261126)

    def short(descriptor: int, data: Any) -> int:
        if dice.random() < 0.3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data[: dice.randint(1, 400)])

    def truncate(descriptor: int, length: int) -> None:
        if dice.random() < 0.3:
            raise OSError(errno.EIO, "Input/output error")
        real_truncate(descriptor, length)

    chain = Chain(tmp_path, key=KEY, rotation=Rotation(size=3000, files=None), clock=Clock())
    waiting = deque(Entry(START, "request", {"n": number}) for number in range(60))
    failed = 0
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", short)
        patched.setattr(os, "ftruncate", truncate)
        for _ in range(20_000):
            if not waiting:
                break
            try:
                few = deque(list(waiting)[:1])
                chain.append(few)
                waiting.popleft()
            except OSError:
                failed += 1
    assert not waiting
    assert failed > 50
    chain.close()
    assert numbers(tmp_path) == list(range(60))
    whole(tmp_path)


def test_what_a_failed_write_left_is_cut_off_also_where_the_next_record_begins_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    chain = Chain(tmp_path, key=KEY, rotation=Rotation(age=60), clock=clock)
    real = os.write

    def half(descriptor: int, data: Any) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:-50])

    def refused(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    waiting = deque([Entry(clock.now, "request", {"n": 0})])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        patched.setattr(os, "ftruncate", refused)
        with pytest.raises(OSError, match="No space"):
            chain.append(waiting)
    assert not listing(tmp_path)[0].read_bytes().endswith(b"\n")
    clock.now += 60
    chain.append(waiting)
    chain.close()
    assert len(listing(tmp_path)) == 2
    assert numbers(tmp_path) == [0]
    whole(tmp_path)


def test_what_no_record_can_hold_has_its_place_all_the_same(tmp_path: Path) -> None:
    chain = Chain(tmp_path, key=KEY, clock=Clock())
    data: list[dict[str, Any]] = [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}, {"x": "y" * (1 << 20)}, {"n": 1}]
    chain.append(deque(Entry(START, "request", each) for each in data))
    chain.close()
    assert [each["kind"] for each in records(tmp_path)[2:]] == ["unwritable"] * 4 + ["request"]
    whole(tmp_path)


HOLD = """
import sys
from collections import deque
from pathlib import Path
from stillhouse.edge.guard.audit.chain import Chain, Entry
from stillhouse.edge.guard.audit.rotation import Rotation
chain = Chain(Path(sys.argv[1]), rotation=Rotation(size=5000, files=int(sys.argv[2]) or None))
print("open", flush=True)
number = 0
while True:
    chain.append(deque(Entry(0.0, "request", {"n": number + each}) for each in range(50)))
    number += 50
    print(number, flush=True)
"""


def started(folder: Path, files: int = 0) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(files)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """What a process has heard to be written is there after it was killed, and nothing twice."""
    written: list[int] = []
    for round_ in range(3):
        process = started(tmp_path)
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(5 + round_)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
        process.wait()
        last = max(int(each) for each in told if each.endswith("\n"))
        new = numbers_after_kill(tmp_path)[len(written) :]
        assert new == list(range(len(new)))
        assert len(new) >= last
        written += new
    chain = Chain(tmp_path)
    chain.close()
    report = verify(tmp_path)
    assert report.whole, report.findings


def numbers_after_kill(folder: Path) -> list[int]:
    lines = [line for file in listing(folder) for line in file.read_bytes().splitlines(keepends=True)]
    found = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [each["data"]["n"] for each in found if each["kind"] == "request"]


def test_one_process_at_a_time_and_asking_is_in_nobodys_way(tmp_path: Path) -> None:
    assert not being_written(tmp_path)
    process = started(tmp_path)
    try:
        assert being_written(tmp_path)
        with pytest.raises(StoreError, match="another process"):
            Chain(tmp_path)
    finally:
        process.kill()
        process.communicate()
    assert not being_written(tmp_path)
    chain = Chain(tmp_path)
    assert being_written(tmp_path), "also from the process itself"
    with pytest.raises(StoreError, match="another process"):
        Chain(tmp_path)
    chain.close()
    Chain(tmp_path).close()


def test_links_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("keep")
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "audit-0000000000000001.jsonl").symlink_to(target)
    with pytest.raises(StoreError):
        Chain(folder)
    assert target.read_text() == "keep"


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_what_never_ends_is_no_file_of_a_log(tmp_path: Path, what: str) -> None:
    """Whoever may write the folder must not keep whoever verifies it waiting."""
    file = tmp_path / "audit-0000000000000001.jsonl"
    if what == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="it is no file"):
        verify(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        Chain(tmp_path / "file/log")


def test_verifying_while_it_is_written_and_rotated(tmp_path: Path) -> None:
    """Whenever it is read, and whatever goes meanwhile, what is there is whole."""
    process = started(tmp_path, files=2)
    try:
        for _ in range(10):
            report = verify(tmp_path)
            assert report.whole, report.findings
            assert report.records
    finally:
        process.kill()
        process.communicate()


def test_a_line_that_is_longer_than_any_record(tmp_path: Path) -> None:
    write(tmp_path, 2)
    (file,) = listing(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], b"x" * 3_000_000 + b"\n", *lines[2:]]))
    (finding,) = verify(tmp_path, key=KEY).findings
    assert (finding.line, finding.what) == (3, "the line is longer than any record")


FULL = """
root="$1"; python="$2"
mount -t tmpfs -o size=256k tmpfs "$root" || exit 9
"$python" -c "$3" "$root"
"""
FILLED = """
import sys
from pathlib import Path
from stillhouse.edge.guard.audit.chain import Chain
from stillhouse.edge.guard.audit.log import AuditLog
from stillhouse.edge.guard.audit.verify import verify
root = Path(sys.argv[1])
(root / "ballast").write_bytes(b"x" * 150_000)
log = AuditLog(Chain(root / "log"), full="refuse", linger=0, retry=0.01)
accepted = 0
while True:
    refusal = log.record("request", {"n": accepted})
    if refusal is not None:
        break
    accepted += 1
    if accepted % 500 == 0:
        log.flush(2)
print(refusal.status, log.trouble)
(root / "ballast").unlink()
assert log.flush(20)
assert log.record("request", {"n": accepted}) is None
assert log.close() == 0
report = verify(root / "log")
print(report.whole, report.records == accepted + 3)
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """Requests are refused while there is no room; with room all that was accepted is there."""
    command = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user", "--user"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}"}
    try:
        done = subprocess.run(
            [*command, "sh", "-c", FULL, "sh", str(tmp_path), sys.executable, FILLED],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.returncode == 9 or "unshare" in done.stderr:
        pytest.skip("a file system cannot be mounted here; another test lets single writes fail instead")
    assert done.stdout.splitlines() == ["UNAVAILABLE No space left on device", "True True"], done


def test_the_module_writes_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: (sizes.append(len(data)), real(descriptor, data))[1])
    monkeypatch.setattr(module, "CHUNK", 10_000)
    chain = Chain(tmp_path, clock=Clock())
    chain.append(deque(Entry(START, "request", {"n": number}) for number in range(1000)))
    chain.close()
    assert max(sizes) < 10_500
    assert verify(tmp_path).records == 1002
