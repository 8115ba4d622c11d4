"""Whether a log is whole: every line a record, every record behind the one before it, from the first that is kept to the last.

What it can find: any edit, drop, repetition, reordering or insertion of records and of files, short of the end. Without the key
only as long as nobody has computed all hashes from there on anew. What it cannot: that records are missing at the end, or a
whole log; for that somebody keeps a head (sequence number and hash) elsewhere, and asks for it (`expect`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stillhouse.edge.guard.audit.files import LONGEST_LINE, being_written, first_seq, lines, listing
from stillhouse.edge.guard.audit.records import GENESIS, BadRecord, Key, Record, parse
from stillhouse.edge.guard.refusals import shown

__all__ = ["Finding", "Report", "verify"]

MOST_FINDINGS = 100
TRIES = 5
"""Times that a log is read from the beginning when rotation removes a file while it is read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. `line`: from 1; 0 is the file or the log as a whole."""

    file: str
    line: int
    what: str


@dataclass(slots=True)
class Report:
    """What a log was found to be. `first`, `last`: sequence number, hash and time of the first record and the last intact one."""

    place: str
    files: int = 0
    records: int = 0
    first: Record | None = None
    last: Record | None = None
    keyed: bool = False
    findings: list[Finding] = field(default_factory=list)
    unnamed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Say whether nothing was found."""
        return not self.findings

    def add(self, file: str, line: int, what: str) -> None:
        """Note a finding; beyond a hundred they are counted."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(file, line, what))
        else:
            self.unnamed += 1


def verify(place: Path, *, key: Key | None = None, expect: tuple[int, str] | None = None) -> Report:
    """Read a log, a folder or one file of it, and return what it is.

    Raises:
        OSError: it cannot be read.
    """
    for _ in range(TRIES - 1):
        try:
            return _read(place, key, expect)
        except FileNotFoundError:
            if not being_written(place):
                raise
    return _read(place, key, expect)


def _read(place: Path, key: Key | None, expect: tuple[int, str] | None) -> Report:
    walk = _Walk(Report(str(place)), key, expect)
    if place.is_dir():
        files = listing(place)
        alive = being_written(place)
    else:
        files, alive = [place], being_written(place.parent)
    for number, file in enumerate(files):
        walk.file(file, last=number == len(files) - 1, alive=alive)
    walk.end(whole_log=place.is_dir())
    return walk.report


class _Walk:
    """Where the reading is: what number and hash the next record must name."""

    def __init__(self, report: Report, key: Key | None, expect: tuple[int, str] | None) -> None:
        self.report = report
        self._key = key
        self._expect = expect
        self._met = False
        self._seq: int | None = None
        self._prev: str | None = None
        self._place = ("", 0)
        self._removed: dict[int, str] = {}
        self._ends: dict[int, str] = {}  # number and hash of each file's last record
        self._back = 0
        self._macs = [0, 0]  # records without, with

    def file(self, file: Path, *, last: bool, alive: bool) -> None:
        """Read one file."""
        report = self.report
        report.files += 1
        number = 0
        for number, line in enumerate(lines(file), 1):
            if not line.endswith(b"\n"):
                if len(line) == LONGEST_LINE:
                    report.add(file.name, number, "the line is longer than any record")
                elif last and alive:
                    report.notes.append("a process is writing the log; its last line is not finished")
                else:
                    after = "; the next start cuts it off, and records that" if last else ""
                    report.add(file.name, number, f"the line is not finished ({len(line)} bytes){after}")
                continue
            try:
                record = parse(line)
            except BadRecord as error:
                report.add(file.name, number, str(error))
                self._seq = None if self._seq is None else self._seq + 1
                self._prev = None  # unknown
                continue
            if number == 1:
                self._begins(file, record)
            self._record(file.name, number, record)
        if report.last is not None:
            self._ends[report.last.seq] = report.last.hash
        if not number and not (last and alive):
            report.add(file.name, 0, "the file is empty")

    def _begins(self, file: Path, record: Record) -> None:
        named = first_seq(file)
        if named is not None and named != record.seq:
            self.report.add(file.name, 1, f"the file begins with record {record.seq}, and not with that of its name")
        elif record.kind != "file":
            self.report.add(file.name, 1, f"the file begins with a record {shown(record.kind)}, and not with 'file'")

    def _record(self, name: str, line: int, record: Record) -> None:
        report = self.report
        report.records += 1
        if report.first is None:
            report.first = record
            self._place = (name, line)
        if self._seq is not None and record.seq != self._seq:
            report.add(name, line, _order(record.seq, self._seq))
        elif self._prev is not None and record.prev != self._prev:
            report.add(
                name, line, f"record {record.seq} does not follow the one before it: one of the two is not what was written"
            )
        self._macs[bool(record.mac)] += 1
        if self._key is not None and not (record.mac and record.genuine(self._key)):
            report.add(
                name,
                line,
                f"record {record.seq} was not written with this key" if record.mac else f"record {record.seq} has no mac",
            )
        if report.last is not None and record.time < report.last.time:
            self._back += 1
        if record.kind == "removed":
            through, digest = record.data.get("through"), record.data.get("hash")
            if isinstance(through, int) and isinstance(digest, str):
                self._removed[through] = digest
        if self._expect is not None and self._expect[0] == record.seq:
            self._met = True
            if record.hash != self._expect[1]:
                report.add(name, line, f"record {record.seq} is not the one that was kept elsewhere")
        self._seq, self._prev = record.seq + 1, record.hash
        report.last = record

    def end(self, *, whole_log: bool) -> None:
        """Judge the log as a whole."""
        report = self.report
        without, with_mac = self._macs
        report.keyed = with_mac > 0
        if with_mac and without:
            report.add("", 0, f"{without} of {with_mac + without} records have no mac")
        if self._back:
            report.notes.append(f"the clock was set back {self._back} times; the order is that of the numbers")
        if report.keyed and self._key is None:
            report.notes.append("records have macs; without --key-file they were not checked")
        first = report.first
        if first is None:
            report.add("", 0, "there is no record")
        elif first.seq == 1:
            if first.prev != GENESIS:
                report.add(*self._place, "the first record names one before it")
        elif whole_log and not self._told(first):
            report.add(*self._place, f"records 1 to {first.seq - 1} are missing, and no record says that they were removed")
        elif whole_log:
            report.notes.append(f"records 1 to {first.seq - 1} were removed by rotation, as a record says")
        self._expected()

    def _told(self, first: Record) -> bool:
        """Say whether a record tells that what was before `first` is removed: that, or more, where removing was interrupted."""
        before = {first.seq - 1: first.prev}
        return any((self._ends | before).get(seq) == digest for seq, digest in self._removed.items())

    def _expected(self) -> None:
        if self._expect is None or self._met:
            return
        seq, digest = self._expect
        first, last = self.report.first, self.report.last
        if first is not None and seq == first.seq - 1 and first.prev == digest:
            return
        if first is not None and seq < first.seq:
            self.report.add("", 0, f"record {seq}, which was kept elsewhere, is older than what is here: it cannot be compared")
        elif last is not None and seq > last.seq:
            self.report.add("", 0, f"the end is missing: the log ends with record {last.seq}, record {seq} was kept elsewhere")
        else:
            self.report.add("", 0, f"record {seq}, which was kept elsewhere, is missing")


def _order(found: int, wanted: int) -> str:
    if found > wanted:
        missing = f"record {wanted} is" if found == wanted + 1 else f"records {wanted} to {found - 1} are"
        return f"{missing} missing before record {found}"
    return f"record {found} stands where record {wanted} must be: repeated, moved or put in"
