"""Dies, as by kill -9, before the n-th thing that it would do to the disk.

Every audited change (open for writing, rename, remove, mkdir, rmdir, chmod, link) and every fsync counts. The process
forks for every n, so that a run costs milliseconds: `python -m tests.support.crash WHAT FOLDER SEED COUNT` tries COUNT
points chosen by the seed (0: all of them) and prints a JSON list with one object a point.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import passes, stores

from stillhouse.clients.store.gc import collect
from stillhouse.clients.store.local import LocalStore

__all__: list[str] = []

COUNTED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Injector:
    """Counts changes to the disk; at the `fatal`-th one it kills this process before the change happens."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal
        self.count = 0

    def install(self) -> None:
        """Watch from now on. There is no way back, as for any audit hook."""
        real_pwrite = os.pwrite

        def fsync(handle: int) -> None:
            self.strike()

        def pwrite(handle: int, data: bytes, offset: int) -> int:
            self.strike()
            return real_pwrite(handle, data, offset)

        os.fsync, os.pwrite = fsync, pwrite  # type: ignore[assignment]
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count an audit event if it changes the disk."""
        if event in COUNTED or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            self.strike()

    def strike(self) -> None:
        """Count, and die when it is time."""
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], Any], fatal: int = 0) -> tuple[bool, Any, int]:
    """Run `work` in a forked process; return (whether it was killed, its result as JSON data, changes counted)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        with contextlib.suppress(BaseException):
            injector = Injector(fatal)
            injector.install()
            result = work()
            os.write(writer, json.dumps([result, injector.count]).encode())
            code = 0
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status != 0:
        raise RuntimeError(f"the child failed by itself: {status}")
    result, count = json.loads(text) if text else (None, 0)
    return killed, result, count


def build(root: Path) -> dict[str, str]:
    """Run the tiny plan; return step id → digest."""
    receipts = passes.make_runner(root).run(passes.chain())
    return {step: receipt.artifact for step, receipt in receipts.items()}


def clean(root: Path) -> list[str]:
    """Free everything that step c does not stand for."""
    plan = passes.chain()
    store = LocalStore(root)
    freed = collect(store, lambda: ([plan.step("train/c").key], []))
    return list(freed.objects)


def mend(root: Path) -> dict[str, str]:
    """Build over a store whose object of step c is damaged."""
    return build(root)


def prepared(what: str, root: Path) -> None:
    """Bring the store into the state that the work starts from."""
    shutil.rmtree(root, ignore_errors=True)
    if what == "build":
        return
    build(root)
    store = LocalStore(root)
    if what == "mend":
        receipt = store.receipt(passes.chain().step("train/c").key)
        assert receipt is not None
        path = store.objects.path(receipt.artifact) / "text"
        path.chmod(0o644)
        path.write_text("damaged")
    if what == "clean":
        (store.tmp / "left").mkdir()
        (store.tmp / "left" / "file").write_text("x")
        (store.scratch("0" * 64) / "part").write_text("x")


def look(root: Path) -> dict[str, Any]:
    """Return what a reader sees in the store."""
    store = LocalStore(root)
    broken = [name for name in store.receipt_keys() if (r := store.receipt(name)) is None or store.objects.check(r.artifact)]
    return {"state": stores.state_of(store), "broken": broken}


def main() -> None:
    """Try the points. A killed process loses nothing that the kernel has, so that nothing needs to reach the disk here."""
    os.fsync = lambda handle: None  # type: ignore[assignment, unused-ignore]
    what, folder, seed, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    work = {"build": build, "clean": clean, "mend": mend}[what]
    root = folder / "store"
    prepared(what, root)
    _, _, total = in_child(lambda: work(root))
    points = list(range(1, total + 1))
    if count:
        points = sorted(random.Random(seed).sample(points, min(count, total)))
    report = []
    for point in points:
        prepared(what, root)
        killed, _, _ = in_child(lambda: work(root), point)
        after = look(root)
        _, result, _ = in_child(lambda: work(root))
        _, cleaned, _ = in_child(lambda: bool(collect(LocalStore(root), lambda: (LocalStore(root).receipt_keys(), []))))
        report.append({"point": point, "killed": killed, "after": after, "result": result, "cleaned": cleaned, "end": look(root)})
    print(json.dumps({"total": total, "points": report}))


if __name__ == "__main__":
    main()
