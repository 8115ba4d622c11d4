"""`--to pvc://CLAIM[/PREFIX]`: files below the source's digest, written by programs of a pod that mounts the claim.

A file grows under another name, is hashed in the pod, and is renamed when it is whole; so what broke off goes on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from stillhouse.clients.sources.push.bundle import Bundle, Item, Pushed, Report
from stillhouse.clients.sources.push.shell import Ended, Shell
from stillhouse.errors import EnvironmentProblem, SourceError, UsageError

__all__ = ["ROOT", "ClaimTarget", "parse_claim"]

ROOT = "/claim"
"""Where the pod mounts the claim."""
PREFIX = "sources"
"""Where no prefix is named; beside it lies the store."""
_STORE = "store"
_BLOCK = 64 << 20
_READ = 1 << 20
_ATTEMPTS = 5
_OTHER = 9
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

_LIST = 'cd "$1" 2>/dev/null || exit 0; find . -type f ! -name "*.part" -exec sha256sum {} +'
_SIZE = 'if [ -f "$1" ]; then wc -c < "$1"; else echo 0; fi'
_APPEND = 'mkdir -p "$(dirname "$1")" && head -c "$2" >> "$1" && wc -c < "$1"'
_PLACE = f'if [ "$(sha256sum < "$1")" = "$2  -" ]; then mv -f "$1" "$3"; else rm -f "$1"; exit {_OTHER}; fi'


def parse_claim(uri: str) -> tuple[str, str]:
    """Return (claim, folder in it) of `pvc://CLAIM[/PREFIX]`.

    Raises:
        UsageError: it is no folder of a claim.
    """
    claim, _, prefix = uri.removeprefix("pvc://").partition("/")
    parts = [part for part in prefix.split("/") if part not in ("", ".")]
    if not _NAME.fullmatch(claim) or ".." in parts or "\0" in prefix:
        raise UsageError("this is no folder of a claim", field="--to", found=uri, allowed="pvc://CLAIM[/PREFIX]", fix="check it")
    if parts[:1] == [_STORE]:
        raise UsageError(
            "the store lies there", field="--to", found=uri, allowed=f"pvc://{claim}/{PREFIX}", fix="take another folder"
        )
    return claim, "/".join(parts) or PREFIX


class ClaimTarget:
    """A folder of a claim. `root` is where `shell`'s programs find the claim."""

    def __init__(self, shell: Shell, uri: str, *, root: str = ROOT, block: int = _BLOCK) -> None:
        self._claim, self._prefix = parse_claim(uri)
        self._shell, self._root, self._block = shell, root, block

    def push(self, bundle: Bundle, report: Report) -> Pushed:
        """Put a source into the claim."""
        folder = f"{self._root}/{self._prefix}/{bundle.folder}"
        there, done, sent = self._there(folder), 0, 0
        for name, item in bundle.files.items():
            if there.get(name) != item.sha256:

                def told(count: int, before: int = done) -> None:
                    report(before + count, bundle.size)

                sent += self._send(f"{folder}/{name}", item, told)
            done += item.size
            report(done, bundle.size)
        uri = f"pvc://{self._claim}/{self._prefix}/{bundle.folder}"
        return Pushed(uri + (f"/{bundle.single}" if bundle.single else ""), sent)

    def _there(self, folder: str) -> dict[str, str]:
        """Return what is there: name → SHA-256, reckoned in the pod."""
        found = {}
        for line in self._do(_LIST, folder).out.decode("utf-8", "surrogateescape").splitlines():
            digest, _, name = line.partition("  ./")
            found[name] = digest
        return found

    def _send(self, path: str, item: Item, told: Callable[[int], None]) -> int:
        """Send a file from where an earlier attempt has left it; return the bytes that were sent."""
        sent = 0
        for last in (False, True):
            sent += self._grow(f"{path}.part", item, told)
            ended = self._do(_PLACE, f"{path}.part", item.sha256, path, well=(0, _OTHER))
            if ended.code == 0:
                return sent
            if last:
                break
        raise SourceError(
            "the file arrived as another one",
            field=str(item.path),
            found=f"another SHA-256 in the claim, twice: {path}",
            allowed=item.sha256,
            fix="was it changed while it was sent, or does another push write there? run it again",
        )

    def _grow(self, part: str, item: Item, told: Callable[[int], None]) -> int:
        sent = failures = 0
        while True:
            start = int(self._do(_SIZE, part).out)
            if start > item.size:
                self._do('rm -f "$1"', part)
                continue
            if start == item.size and (start or sent or failures):
                return sent
            count = min(self._block, item.size - start)
            try:
                ended = self._run(_APPEND, (part, str(count)), _read(item, start, count, told))
                if ended.code:
                    raise _failed(ended)
                sent += count
                failures = 0
                if start + count == item.size:
                    return sent
            except EnvironmentProblem:
                failures += 1
                if failures >= _ATTEMPTS:
                    raise
                time.sleep(min(0.2 * 2**failures, 5.0))

    def _do(self, script: str, *arguments: str, well: tuple[int, ...] = (0,)) -> Ended:
        """Run a script that may be run twice, again where the connection breaks off."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                ended = self._run(script, arguments, ())
                break
            except EnvironmentProblem:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(min(0.2 * 2**attempt, 5.0))
        if ended.code not in well:
            raise _failed(ended)
        return ended

    def _run(self, script: str, arguments: tuple[str, ...], stdin: Iterator[bytes] | tuple[()]) -> Ended:
        return self._shell.run(["sh", "-c", script, "sh", *arguments], stdin)


def _read(item: Item, start: int, count: int, told: Callable[[int], None]) -> Iterator[bytes]:
    with item.path.open("rb") as stream:
        stream.seek(start)
        done = 0
        while done < count:
            block = stream.read(min(_READ, count - done))
            if not block:
                raise SourceError(
                    "the file was changed while it was sent",
                    field=str(PurePosixPath(item.path)),
                    found=f"{start + done} bytes",
                    allowed=f"{item.size} bytes",
                    fix="run it again",
                )
            yield block
            done += len(block)
            told(start + done)


def _failed(ended: Ended) -> EnvironmentProblem:
    return EnvironmentProblem(
        "the claim cannot be written",
        field="--to",
        found=f"exit code {ended.code}: {ended.err.strip()}"[:300],
        fix="is the claim full, or mounted read-only? does the pod's image have sh, head, find and sha256sum?",
    )
