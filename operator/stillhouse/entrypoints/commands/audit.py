"""`still audit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillhouse.entrypoints.options import emit, output_option

__all__ = ["command"]

if TYPE_CHECKING:
    from stillhouse.edge.guard.audit.verify import Report


@click.group()
def command() -> None:
    """Verify audit logs of the gateway.

    \b
    Example:
      still audit verify /var/log/stillhouse/audit
    """


@command.command()
@click.argument("place", metavar="FOLDER|FILE", type=click.Path(path_type=Path))
@click.option("--key-file", type=click.Path(path_type=Path), help="The key that the log is written with.")
@click.option("--expect", default="", metavar="SEQ:HASH", help="A head that was kept elsewhere: it must be in the log.")
@output_option
def verify(place: Path, key_file: Path | None, expect: str, output: str) -> None:
    """Read an audit log and say whether it is whole. Exit code 5 when a record was edited, removed, moved or put in.

    A FOLDER may hold one log, or one in each of its folders. Nothing in a log tells that records are missing at its end: keep
    the head that is printed somewhere else, and ask for it with --expect. Without --key-file somebody who has computed all
    hashes anew is not found.

    \b
    Example:
      still audit verify /var/log/stillhouse/audit
      still audit verify /var/log/stillhouse/audit --key-file audit.key -o json
      still audit verify /var/log/stillhouse/audit --expect 1042:9f86d081884c7d65…
    """
    from stillhouse.edge.guard.audit.records import Key
    from stillhouse.edge.guard.audit.verify import verify as read
    from stillhouse.errors import UsageError

    key = Key.read(key_file) if key_file is not None else None
    head = _head(expect)
    try:
        logs = _logs(place)
        if head is not None and len(logs) > 1:
            raise UsageError("a head is of one log", field="--expect", found=f"{len(logs)} logs", fix="name the folder of one")
        reports = [read(log, key=key, expect=head) for log in logs]
    except OSError as error:
        raise UsageError(
            "the log cannot be read", field="FOLDER|FILE", found=f"{error.filename or place}: {error.strerror}"
        ) from error

    def text() -> None:
        for report in reports:
            _print(report, checked=key is not None)

    emit([_data(report, checked=key is not None) for report in reports], output, text)
    if not all(report.whole for report in reports):
        sys.exit(5)


def _head(expect: str) -> tuple[int, str] | None:
    """Read SEQ:HASH.

    Raises:
        UsageError: it has another form.
    """
    from stillhouse.errors import UsageError

    if not expect:
        return None
    seq, _, digest = expect.partition(":")
    known = len(digest) == 64 and all(each in "0123456789abcdef" for each in digest.lower())
    if not (seq.isascii() and seq.isdigit() and len(seq) < 20 and known):
        raise UsageError("that is no head of a log", field="--expect", found=expect, allowed="SEQ:HASH, as it is printed")
    return int(seq), digest.lower()


def _logs(place: Path) -> list[Path]:
    """Return the logs at a place: itself, or the folders in it.

    Raises:
        OSError: it cannot be read.
        UsageError: there is none.
    """
    from stillhouse.edge.guard.audit.files import LOCK, listing
    from stillhouse.errors import UsageError

    if not place.is_dir():
        place.stat()
        return [place]
    folders = [place, *sorted(each for each in place.iterdir() if each.is_dir())]
    logs = [each for each in folders if listing(each) or (each / LOCK).exists()]
    if not logs:
        raise UsageError(
            "there is no audit log", field="FOLDER|FILE", found=str(place), allowed="a folder with files audit-*.jsonl"
        )
    return logs


def _data(report: Report, *, checked: bool) -> dict[str, Any]:
    first, last = report.first, report.last
    return {
        "log": report.place,
        "whole": report.whole,
        "files": report.files,
        "records": report.records,
        "from": first and {"seq": first.seq, "time": first.time},
        "to": last and {"seq": last.seq, "time": last.time},
        "head": last and f"{last.seq}:{last.hash}",
        "macs": ("checked" if checked else "unchecked") if report.keyed else "none",
        "findings": [{"file": each.file, "line": each.line, "what": each.what} for each in report.findings],
        "furtherFindings": report.unnamed,
        "notes": report.notes,
    }


def _print(report: Report, *, checked: bool) -> None:
    click.secho("✓ " if report.whole else "✗ ", fg="green" if report.whole else "red", nl=False)
    outcome = "whole" if report.whole else "not what was written"
    how = ", macs checked" if checked else ""
    click.echo(f"{report.place}: {outcome}; {report.records} records in {report.files} files{how}")
    for each in report.findings:
        place = f"{each.file}:{each.line}: " if each.line else f"{each.file}: " if each.file else ""
        click.echo(f"    {place}{each.what}")
    if report.unnamed:
        click.echo(f"    and {report.unnamed} more")
    if report.first is not None and report.last is not None:
        click.echo(f"  from {report.first.time} (record {report.first.seq}) to {report.last.time} (record {report.last.seq})")
        if report.whole:
            click.echo(f"  head {report.last.seq}:{report.last.hash}")
    for note in report.notes:
        click.echo(f"  note: {note}")
