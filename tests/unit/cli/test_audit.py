"""`still audit verify`: what it prints, for people and for programs, and how it ends."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path

import pytest
import yaml

from stillhouse.edge.guard.audit.chain import Chain, Entry
from stillhouse.edge.guard.audit.files import listing
from stillhouse.edge.guard.audit.records import Key
from stillhouse.edge.guard.audit.rotation import Rotation

from .conftest import Still

SECRET = "0123456789abcdef0123456789abcdef"


def write(folder: Path, count: int = 40, key: str = "") -> str:
    chain = Chain(folder, key=Key(key.encode()) if key else None, rotation=Rotation(size=4000), clock=lambda: 1_790_000_000.0)
    chain.append(deque(Entry(1_790_000_000.0 + number, "request", {"n": number}) for number in range(count)))
    chain.close()
    seq, digest = chain.head
    return f"{seq}:{digest}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_a_whole_log(still: Still, log: Path) -> None:
    head = write(log)
    result = still("audit", "verify", str(log))
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert lines[0] == f"✓ {log}: whole; 44 records in 3 files"
    assert lines[1] == "  from 2026-09-21T14:13:20.000000Z (record 1) to 2026-09-21T14:13:59.000000Z (record 44)"
    assert lines[2] == f"  head {head}"
    assert still("audit", "verify", str(log), "--expect", head).code == 0


def test_as_data(still: Still, log: Path) -> None:
    head = write(log, key=SECRET)
    key = log.with_name("key")
    key.write_text(f"{SECRET}\n")
    result = still("audit", "verify", str(log), "--key-file", str(key), "-o", "json")
    assert result.code == 0
    (data,) = json.loads(result.out)
    assert (data["whole"], data["records"], data["head"], data["macs"]) == (True, len(listing(log)) + 41, head, "checked")
    assert data["from"] == {"seq": 1, "time": "2026-09-21T14:13:20.000000Z"}
    (bare,) = yaml.safe_load(still("audit", "verify", str(log), "-o", "yaml").out)
    assert (bare["whole"], bare["macs"]) == (True, "unchecked")


def test_damage_is_named_with_file_and_line(still: Still, log: Path) -> None:
    write(log)
    first, second, *_ = listing(log)
    lines = first.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join([*lines[:4], *lines[5:]]))
    other = second.read_bytes().splitlines(keepends=True)
    second.write_bytes(b"".join([*other[:2], other[2].replace(b'"n":', b'"n":9'), *other[3:]]))
    result = still("audit", "verify", str(log))
    assert (result.code, result.err) == (5, "")
    assert result.out.splitlines()[:3] == [
        f"✗ {log}: not what was written; 42 records in 3 files",
        f"    {first.name}:5: record 5 is missing before record 6",
        f"    {second.name}:3: it was edited: its hash is not that of what it says",
    ]
    assert "head" not in result.out, "nobody should keep the head of such a log"
    data = json.loads(still("audit", "verify", str(log), "-o", "json").out)[0]
    assert [(each["file"], each["line"]) for each in data["findings"]] == [(first.name, 5), (second.name, 3)]


def test_the_end_is_missed_by_who_kept_the_head(still: Still, log: Path) -> None:
    head = write(log)
    last = listing(log)[-1]
    last.write_bytes(b"".join(last.read_bytes().splitlines(keepends=True)[:-2]))
    assert still("audit", "verify", str(log)).code == 0
    result = still("audit", "verify", str(log), "--expect", head)
    assert result.code == 5
    assert "the end is missing: the log ends with record 42, record 44 was kept elsewhere" in result.out


def test_the_logs_of_several_processes(still: Still, log: Path) -> None:
    write(log / "0")
    write(log / "1")
    file = listing(log / "1")[0]
    file.write_bytes(file.read_bytes()[1:])
    result = still("audit", "verify", str(log), "-o", "json")
    assert result.code == 5
    assert [each["whole"] for each in json.loads(result.out)] == [True, False]
    refused = still("audit", "verify", str(log), "--expect", f"1:{'0' * 64}")
    assert refused.code == 2
    assert "a head is of one log" in refused.err


def test_one_file(still: Still, log: Path) -> None:
    write(log)
    assert still("audit", "verify", str(listing(log)[1])).code == 0


def test_a_log_whose_files_are_all_gone(still: Still, log: Path) -> None:
    write(log)
    for file in listing(log):
        file.unlink()
    result = still("audit", "verify", str(log))
    assert result.code == 5
    assert "there is no record" in result.out


@pytest.mark.parametrize("expect", ["1", "x:" + "0" * 64, "1:abc", f"-1:{'0' * 64}", f"1:{'g' * 64}"])
def test_a_head_that_is_none(still: Still, log: Path, expect: str) -> None:
    write(log)
    result = still("audit", "verify", str(log), f"--expect={expect}")
    assert result.code == 2
    assert "--expect" in result.err


def test_what_is_not_there(still: Still, log: Path) -> None:
    assert still("audit", "verify", str(log)).code == 2
    assert json.loads(still("audit", "verify", str(log), "-o", "json").out)["exitCode"] == 2
    log.mkdir()
    result = still("audit", "verify", str(log))
    assert result.code == 2
    assert "there is no audit log" in result.err
    write(log)
    key = log.with_name("key")
    missing = still("audit", "verify", str(log), "--key-file", str(key))
    assert (missing.code, "No such file" in missing.err) == (2, True)
    key.write_text("short")
    short = still("audit", "verify", str(log), "--key-file", str(key))
    assert (short.code, "openssl rand -hex 32" in short.err) == (2, True)


def test_the_wrong_key(still: Still, log: Path) -> None:
    write(log, key=SECRET)
    key = log.with_name("key")
    key.write_text("another secret of enough bytes")
    result = still("audit", "verify", str(log), "--key-file", str(key))
    assert result.code == 5
    assert "was not written with this key" in result.out


def test_help(still: Still) -> None:
    result = still("audit", "verify", "--help")
    assert result.code == 0
    assert "Example:" in result.out
    assert still("audit", "verfy").code == 2
