"""The chain of records: each single edit, drop, repetition or move of one is found, with its file and line."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.edge.guard.audit.chain import Chain, Entry
from stillhouse.edge.guard.audit.files import listing
from stillhouse.edge.guard.audit.inputs import Inputs
from stillhouse.edge.guard.audit.records import GENESIS, BadRecord, Key, encode, parse
from stillhouse.edge.guard.audit.rotation import Rotation
from stillhouse.edge.guard.audit.verify import Report, verify
from stillhouse.errors import StoreError

KEY = Key(b"0123456789abcdef0123456789abcdef")
OTHER = Key(b"another key, and no worse than it")
RECORDS = 200


def entries(count: int, start: int = 0) -> deque[Entry]:
    data = [
        {"client": f"c{number % 7}", "outcome": "answered", "model": "tiny", "n": number}
        for number in range(start, start + count)
    ]
    return deque(Entry(1_790_000_000.0 + each["n"] / 10, "request", each) for each in data)  # type: ignore[operator]


def write(folder: Path, key: Key | None, count: int = RECORDS, size: int = 16_000) -> tuple[int, str]:
    chain = Chain(folder, key=key, rotation=Rotation(size=size), clock=lambda: 1_789_999_999.0)
    chain.append(entries(count))
    chain.close()
    return chain.head


class Log:
    """A log that was written once, to be damaged in memory again and again."""

    def __init__(self, folder: Path, key: Key | None) -> None:
        self.folder, self.key = folder, key
        self.head = write(folder, key)
        self.files = listing(folder)
        self.content = {file: file.read_bytes().splitlines(keepends=True) for file in self.files}
        self.places = [(file, number) for file in self.files for number in range(len(self.content[file]))]

    def with_lines(self, file: Path, lines: list[bytes], key: Key | None = None) -> Report:
        file.write_bytes(b"".join(lines))
        try:
            return verify(self.folder, key=key or self.key)
        finally:
            file.write_bytes(b"".join(self.content[file]))


@pytest.fixture(scope="module", params=["no key", "a key"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("log"), KEY if request.param == "a key" else None)


def found_at(report: Report, file: Path, *lines: int) -> bool:
    return any(each.file == file.name and each.line in lines for each in report.findings)


def test_a_log_that_nobody_touched(log: Log) -> None:
    report = verify(log.folder, key=log.key)
    assert report.whole, report.findings
    assert not any("clock" in note for note in report.notes)
    assert len(log.files) > 3, "it was rotated"
    assert report.records == len(log.places) == RECORDS + len(log.files) + 1
    assert (report.files, report.keyed) == (len(log.files), log.key is not None)
    assert report.last is not None
    assert (report.last.seq, report.last.hash) == log.head
    assert report.first is not None
    assert (report.first.seq, report.first.prev) == (1, GENESIS)


def edits(line: bytes) -> Iterator[bytes]:
    """Yield the ways in which somebody might edit a record with an editor: every field, the form, one bit."""
    record = json.loads(line)
    for field, value in record.items():
        other: Any = value + 1 if isinstance(value, int) else {**value, "x": 1} if isinstance(value, dict) else f"0{value[1:]}"
        if other == value:
            other = f"1{value[1:]}"
        yield json.dumps({**record, field: other}, separators=(",", ":")).encode() + b"\n"
        yield json.dumps({name: each for name, each in record.items() if name != field}, separators=(",", ":")).encode() + b"\n"
    yield line[:-2] + b" }\n"
    yield line.replace(b'"kind"', b'"seq":1,"kind"', 1)
    middle = len(line) // 2
    yield line[:middle] + bytes([line[middle] ^ 1]) + line[middle + 1 :]


def test_every_edit_of_every_record_is_found_where_it_is(log: Log) -> None:
    for file, number in log.places:
        lines = log.content[file]
        for edited in [*edits(lines[number])][number % 3 :: 3]:  # of each record a third of the ways, of three neighbours all
            report = log.with_lines(file, [*lines[:number], edited, *lines[number + 1 :]])
            assert found_at(report, file, number + 1), (file.name, number, edited)


def test_every_record_that_was_dropped_is_missed(log: Log) -> None:
    """All but the last one of all: that is what a head kept elsewhere is for."""
    for file, number in log.places:
        lines = log.content[file]
        report = log.with_lines(file, [*lines[:number], *lines[number + 1 :]])
        if (file, number) == log.places[-1]:
            assert report.whole
        else:
            assert not report.whole, (file.name, number)
            if number < len(lines) - 1:
                assert found_at(report, file, number + 1)


def test_the_last_record_is_missed_by_who_kept_the_head(log: Log) -> None:
    file = log.files[-1]
    file.write_bytes(b"".join(log.content[file][:-1]))
    try:
        report = verify(log.folder, key=log.key, expect=log.head)
    finally:
        file.write_bytes(b"".join(log.content[file]))
    assert [each.what for each in report.findings] == [
        f"the end is missing: the log ends with record {log.head[0] - 1}, record {log.head[0]} was kept elsewhere"
    ]
    assert verify(log.folder, key=log.key, expect=log.head).whole
    assert verify(log.folder, expect=(log.head[0], "0" * 64)).findings[0].what.endswith("is not the one that was kept elsewhere")
    assert not verify(log.folder, expect=(0, "1" * 64)).whole


def test_every_record_that_was_repeated_is_found(log: Log) -> None:
    for file, number in log.places:
        lines = log.content[file]
        assert found_at(log.with_lines(file, [*lines[: number + 1], lines[number], *lines[number + 1 :]]), file, number + 2)
        assert not log.with_lines(file, [*lines, lines[number]]).whole, "at the end"


def test_every_two_neighbours_that_were_exchanged_are_found(log: Log) -> None:
    for file, number in log.places:
        lines = log.content[file]
        if number + 1 < len(lines):
            report = log.with_lines(file, [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]])
            assert found_at(report, file, number + 1), (file.name, number)


def test_every_record_that_was_moved_far_is_found(log: Log) -> None:
    for file, number in log.places:
        lines = [*log.content[file]]
        line = lines.pop(number)
        to = (number * 7 + 3) % (len(lines) + 1)
        if to != number:
            lines.insert(to, line)
            assert not log.with_lines(file, lines).whole, (file.name, number, to)


def test_a_record_that_was_made_up_is_found(log: Log) -> None:
    for file, number in log.places[::5]:
        lines = log.content[file]
        before = json.loads(lines[number])
        forged, _ = encode(
            before["seq"] + 1, before["time"], "request", {"forged": True}, before["hash"], OTHER if log.key else None
        )
        report = log.with_lines(file, [*lines[: number + 1], forged, *lines[number + 1 :]])
        last = (file, number) == log.places[-1]
        assert report.whole == (last and log.key is None), "without a key anybody can go on where a log ends"


def rewritten(log: Log, file: Path, number: int, key: Key | None) -> list[bytes]:
    """Return the file's lines with one record changed, and every hash after it computed anew, as by who knows how it is done."""
    lines = [*log.content[file]]
    prev = json.loads(lines[number])["prev"]
    for position in range(number, len(lines)):
        record = json.loads(lines[position])
        data = {**record["data"], "n": -1} if position == number else record["data"]
        lines[position], prev = encode(record["seq"], record["time"], record["kind"], data, prev, key)
    return lines


def test_computing_all_hashes_anew_is_found_by_the_key(log: Log) -> None:
    for file, number in log.places[::7]:
        lines = rewritten(log, file, number, None)
        report = log.with_lines(file, lines)
        if log.key is None:
            assert report.whole == (file == log.files[-1]), "to the very end it is not found; where the next file begins it is"
        else:
            assert found_at(report, file, number + 1), "records without macs"
            assert found_at(log.with_lines(file, rewritten(log, file, number, OTHER)), file, number + 1)


def test_files_that_are_gone_renamed_or_emptied(log: Log) -> None:
    for position, file in enumerate(log.files):
        content = file.read_bytes()
        file.unlink()
        gone = verify(log.folder, key=log.key)
        assert gone.whole == (position == len(log.files) - 1), file.name
        assert not verify(log.folder, key=log.key, expect=log.head).whole
        file.write_bytes(b"")
        assert not verify(log.folder, key=log.key).whole
        file.write_bytes(content)
        other = file.with_name(f"audit-{9_000_000_000 + position:016}.jsonl")
        file.rename(other)
        assert found_at(verify(log.folder, key=log.key), other, 1)
        other.rename(file)
    assert verify(log.folder, key=log.key).whole


def test_one_file_by_itself(log: Log) -> None:
    for file in log.files:
        assert verify(file, key=log.key).whole
    lines = log.content[log.files[1]]
    log.files[1].write_bytes(b"".join([*lines[:5], *lines[6:]]))
    report = verify(log.files[1], key=log.key)
    log.files[1].write_bytes(b"".join(lines))
    assert [(each.line, each.what.split(" is ")[0]) for each in report.findings] == [(6, f"record {json.loads(lines[5])['seq']}")]


def test_the_wrong_key_and_no_key(tmp_path: Path) -> None:
    write(tmp_path, KEY, 20)
    assert "without --key-file" in verify(tmp_path).notes[0]
    assert verify(tmp_path).whole
    report = verify(tmp_path, key=OTHER)
    assert len(report.findings) == report.records
    write(tmp_path / "bare", None, 20)
    assert len(verify(tmp_path / "bare", key=KEY).findings) == 22
    with pytest.raises(StoreError, match="records of another key") as refused:
        write(tmp_path / "bare", KEY, 1)
    assert "written without a key, and now there is one" in refused.value.problem.found
    assert f"move {tmp_path / 'bare'} away" in refused.value.problem.fix


def test_of_many_findings_a_hundred_are_named(tmp_path: Path) -> None:
    write(tmp_path, KEY, 200)
    report = verify(tmp_path, key=OTHER)
    assert (len(report.findings), report.unnamed) == (100, report.records - 100)


@given(st.binary(max_size=200))
def test_no_bytes_are_a_record_by_accident(line: bytes) -> None:
    with pytest.raises(BadRecord):
        parse(line + b"\n")


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"seq":' + b"9" * 10_000 + b"}",
        b"null",
        b"{}",
        b'{"data":{"x":NaN}}',
        b"\xff\xfe",
        b"\x00" * 100,
    ],
)
def test_lines_that_are_meant_badly(line: bytes) -> None:
    with pytest.raises(BadRecord):
        parse(line + b"\n")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), JSON, max_size=4), st.booleans())
def test_whatever_json_is_recorded_is_read_again(data: dict[str, Any], keyed: bool) -> None:
    line, digest = encode(7, "2026-11-26T08:00:00.000000Z", "request", data, GENESIS, KEY if keyed else None)
    record = parse(line)
    assert (record.data, record.hash, record.seq) == (data, digest, 7)
    assert line.count(b"\n") == 1
    assert record.genuine(KEY) == keyed


def test_digests_of_inputs() -> None:
    one, same, other, bare = Inputs(KEY), Inputs(KEY), Inputs(OTHER), Inputs(None)
    text = b"yes"
    assert one.digest(text) == same.digest(text)
    assert len({each.digest(text) for each in (one, other, bare, Inputs(None))}) == 4, (
        "nobody can try short texts without the key"
    )
    told = one.describe({"text": text})
    assert told == {"text": {"bytes": 3, "digest": one.digest(text)}}
    assert "yes" not in json.dumps(told)


def test_inputs_themselves_where_that_was_asked_for() -> None:
    told = Inputs(KEY, raw=True, most=4).describe({"text": b"yes", "long": b"abcdef", "bytes": memoryview(b"\xff\x00")})
    assert told["text"]["text"] == "yes"
    assert (told["long"]["text"], told["long"]["cut"], told["long"]["bytes"]) == ("abcd", True, 6)
    assert told["bytes"]["base64"] == "/wA="
