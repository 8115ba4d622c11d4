"""Sources travel compressed: a file that gets a tenth smaller goes as `NAME.still.zst`, and is itself again where it arrives.

A source's digest is over its plain files, so it is the same here, on the way and there. Which form a file has tells its name
alone, in a bucket, a registry and a claim alike. Both may lie side by side, where an earlier version put the plain one: that
one is taken.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from stillhouse.clients.store import zstd
from stillhouse.clients.store.locks import hold
from stillhouse.digests import content_hash
from stillhouse.errors import SourceError

__all__ = ["SUFFIX", "WORTH", "expand", "is_packed", "plain_name", "twins", "unpacked"]

SUFFIX = zstd.SUFFIX
_PUSHED = re.compile(r"sha256-[0-9a-f]{64}")
WORTH = 0.1
"""The share of a file that compressing must save."""


def is_packed(name: str) -> bool:
    """Say whether a file of this name is a compressed one."""
    return name.endswith(SUFFIX)


def plain_name(name: str) -> str:
    """Return the name that a file has where it is used."""
    return name.removesuffix(SUFFIX)


def twins(names: Iterable[str]) -> set[str]:
    """Return the compressed ones of `names` whose plain file is among them too."""
    known = set(names)
    return {name for name in known if is_packed(name) and plain_name(name) in known}


def expand(packed: Path, target: Path, limit: int, what: str) -> int:
    """Write the plain file of a compressed one to `target`, whole or not at all and durable; return its bytes.

    Raises:
        SourceError: it is damaged, or unpacks to more than `limit` bytes; `what` names it.
        OSError: it cannot be written.
    """
    aside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}")
    size = 0
    try:
        with packed.open("rb") as source, aside.open("wb") as out:
            for block in zstd.decompress(source, limit):
                out.write(block)
                size += len(block)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(target)
    except zstd.Damaged as error:
        raise SourceError(
            "a compressed file of the source cannot be unpacked",
            field="uri",
            found=f"{what}: {error}",
            allowed="what still push wrote",
            fix="still push FILE --to … again: it mends what differs",
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    return size


def unpacked(path: Path, cache: Path, uri: str, limit: int, report: Callable[[int, int], None] | None = None) -> Path:
    """Return where a source of this machine lies plain: `path` itself, or a copy in `cache` where files of it are compressed.

    `path` may be a file that is there compressed only. Folders that are no push's are not looked into.

    Raises:
        SourceError: a compressed file is damaged, or they unpack to more than `limit` bytes.
        OSError: something cannot be read or written.
    """
    single = not path.is_dir()
    folder = path.parent if single else path
    if not _PUSHED.fullmatch(folder.name):
        return path
    names = {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}
    names -= twins(names)
    if not any(is_packed(name) for name in names):
        return path
    stamps = {name: _stamp((folder / name).stat()) for name in sorted(names)}
    target = cache / "unpacked" / content_hash([str(folder.resolve()), stamps])[:32]
    target.parent.mkdir(parents=True, exist_ok=True)
    with hold(target.with_suffix(".lock")):
        if not target.is_dir():
            _fill(folder, names, target, uri, limit, report)
    return target / path.name if single else target


def _stamp(state: os.stat_result) -> list[int]:
    # The time of change too, which nobody can set: a modification time can be put back over other bytes.
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def _fill(folder: Path, names: set[str], target: Path, uri: str, limit: int, report: Callable[[int, int], None] | None) -> None:
    aside = target.with_suffix(".part")
    total = sum((folder / name).stat().st_size for name in names)
    done = size = 0
    for name in sorted(names):
        out = aside / plain_name(name)
        out.parent.mkdir(parents=True, exist_ok=True)
        if is_packed(name):
            size += expand(folder / name, out, max(0, limit - size), f"{uri}: {name}")
        else:
            shutil.copyfile(folder / name, out)
        done += (folder / name).stat().st_size
        if report is not None:
            report(done, total)
    aside.replace(target)
