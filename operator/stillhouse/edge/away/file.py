"""The file under the queue: SQLite with a write-ahead log, one connection of one thread, and what it does on a full disk.

A commit is on the disk when it returns (`synchronous=FULL` syncs the log after each), and a torn tail of the log is found by its
checksums and is no commit. One connection with `locking_mode=EXCLUSIVE`: no second process can open the file, there is no shared
memory that a full disk turns into SIGBUS, and the race of several connections at a log's reset, which all SQLite versions
before 3.51.3 have, cannot occur.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from stillhouse.edge.away.records import QueueError, QueueFull
from stillhouse.edge.status import Code

__all__ = ["BATCH_BYTES", "DISK_FULL", "QueueFile", "is_torn", "queue_error"]

LOG_BYTES = 2**20
BATCH_BYTES = 2**20
"""Bytes after which a transaction takes no more requests: with the largest one it is what the log may grow by."""

TORN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
DISK_FULL = "the disk is full: nothing was kept"
SCHEMA = """
CREATE TABLE record(
  number INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, key TEXT NOT NULL, state INTEGER NOT NULL, size INTEGER NOT NULL,
  created REAL NOT NULL, due REAL NOT NULL, ended REAL, attempts INTEGER NOT NULL, code INTEGER NOT NULL, message TEXT NOT NULL,
  cut INTEGER NOT NULL, digest BLOB NOT NULL, target TEXT NOT NULL, headers TEXT NOT NULL, UNIQUE(owner, key));
CREATE TABLE body(number INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE INDEX waiting ON record(number, due, created, size) WHERE state = 0;
CREATE INDEX ended ON record(ended, size) WHERE state <> 0;
CREATE TABLE clock(
  one INTEGER PRIMARY KEY CHECK(one = 1), age REAL NOT NULL, running REAL NOT NULL, wall REAL NOT NULL, boot TEXT NOT NULL);
"""


def is_torn(error: Exception) -> bool:
    """Say whether SQLite met pages that cannot be."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in TORN


def queue_error(error: Exception, path: Path) -> QueueError:
    """Say what a failure of SQLite or the disk means for who asked."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return QueueFull(DISK_FULL)
    if code == sqlite3.SQLITE_BUSY:
        return QueueError(Code.UNAVAILABLE, f"{path} belongs to another process that runs")
    return QueueError(Code.UNAVAILABLE, f"the queue's file {path}: {error}")


@dataclass(slots=True)
class QueueFile:
    """A file at `path` of at most `most` bytes; `largest`: bytes of the largest record."""

    path: Path
    most: int
    largest: int
    reserved: bool = False
    damaged: int = 0
    _db: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._db is not None

    @property
    def db(self) -> sqlite3.Connection:
        """The connection; there is one."""
        assert self._db is not None
        return self._db

    def connect(self) -> None:
        """Open the file, or make it. Raises `sqlite3.Error` (locked, damaged, disk full) and `OSError`."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite would make it readable for all. O_EXCL: closing a file that is there would drop the locks that this process has.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        self._db = db = sqlite3.connect(self.path, isolation_level=None, timeout=0.2, check_same_thread=False)
        try:
            for pragma in (
                "locking_mode=EXCLUSIVE",  # before the log: no shared memory then
                "auto_vacuum=INCREMENTAL",
                "journal_mode=WAL",
                "synchronous=FULL",
                f"wal_autocheckpoint={LOG_BYTES // 4096}",
                f"journal_size_limit={LOG_BYTES}",
                f"max_page_count={self.most * 5 // 4 // 4096 + 1024}",
                "cell_size_check=ON",
            ):
                db.execute(f"PRAGMA {pragma}").fetchall()
            db.execute("BEGIN IMMEDIATE")
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'clock'").fetchone():
                for statement in SCHEMA.split(";"):
                    db.execute(statement)
            db.execute("COMMIT")
            self.reserved = self._reserve.exists() and self._reserve.stat().st_size >= self._reserve_bytes
            self.keep_reserve()
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; what is committed stays."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def rename_aside(self) -> Path:
        """Close and rename a file that cannot be read, with its log; give its new name. An earlier one of that name goes."""
        self.close()
        self.damaged += 1
        aside = self.path.with_name(f"{self.path.name}.damaged")
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")
        return aside

    def shrink(self, *, frees: bool) -> bool:
        """Make room on a full disk by emptying the log into the file; say whether it did.

        `frees`: for a change that makes room itself. A log that fills the disk would stay for ever: emptying it needs pages in
        the file before it gives any. Such changes may therefore have the reserve, and nothing new is taken in until it is back.
        """
        if self._db is None:
            return False
        log = Path(f"{self.path}-wal")
        with contextlib.suppress(sqlite3.Error, OSError):
            before = log.stat().st_size
            gave = frees and self.reserved
            if frees:
                self.reserved = False
                self._reserve.unlink(missing_ok=True)
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return gave or log.stat().st_size < before
        return False

    def regain(self) -> None:
        """Try to have a reserve again: free pages of the file and what is done of the log go back to the disk first."""
        if self.reserved or self._db is None or self.keep_reserve():
            return
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA incremental_vacuum").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.keep_reserve()

    def keep_reserve(self) -> bool:
        """Put room aside for `shrink`; say whether there is. Some must be left besides, or it would go at once."""
        if self.reserved:
            return True
        with contextlib.suppress(OSError):
            disk = os.statvfs(self.path.parent)
            if disk.f_bavail * disk.f_frsize < self._reserve_bytes + 2 * LOG_BYTES:
                return False
            handle = os.open(self._reserve, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, self._reserve_bytes)
                self.reserved = True
            except OSError:
                self._reserve.unlink(missing_ok=True)
            finally:
                os.close(handle)
        return self.reserved

    @property
    def _reserve(self) -> Path:
        return self.path.with_name(f"{self.path.name}.reserve")

    @property
    def _reserve_bytes(self) -> int:
        return LOG_BYTES + BATCH_BYTES + self.largest  # what the log may hold
