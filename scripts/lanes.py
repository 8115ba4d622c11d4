"""Tiers of tests in two lanes at once: those that compute, and those that wait for servers and nodes.

What the second lane says is told after the first has ended; the last lines are of both together, as pytest would say them.

Example:
    python scripts/lanes.py tests/unit tests/integration -- -m "not slow"

`LANES=1` (or one core, or tiers of one lane alone): one pytest, in the order given.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAITING = ("integration", "cluster")
_LAST = re.compile(r"^=+ (?:.*, )?\d+ \w+.* in [0-9.]+s.*=+$")
_COUNT = re.compile(r"(\d+) ([a-z]+)")
_FAILED = re.compile(r"^(?:FAILED|ERROR) ")
_NONE = "1 error in 0.00s"
"""Of a lane that ended before its last line."""
WORDS = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error")


def main() -> int:
    given = sys.argv[1:]
    at = given.index("--") if "--" in given else len(given)
    tiers, words = given[:at], given[at + 1 :]
    waiting = [each for each in tiers if Path(each).name in WAITING]
    computing = [each for each in tiers if each not in waiting]
    command = [sys.executable, "-m", "pytest", *words]
    if not waiting or not computing or os.environ.get("LANES") == "1" or len(os.sched_getaffinity(0)) < 2:
        return subprocess.call([*command, *tiers])
    begun = time.monotonic()
    print(f"two lanes: {' '.join(computing)} now; {' '.join(waiting)} beside it, told afterwards", flush=True)
    with tempfile.TemporaryDirectory(prefix="stillhouse-tests-") as folder:
        logs = [Path(folder, name) for name in ("computing", "waiting")]
        with logs[1].open("wb") as file:
            beside = subprocess.Popen([*command, *waiting], stdout=file, stderr=subprocess.STDOUT)
        try:
            codes = [_told([*command, *computing], logs[0]), _follow(beside, logs[1])]
        finally:
            _end(beside)
        _close([each.read_text(errors="replace") for each in logs], time.monotonic() - begun)
    return max(codes)


def _told(command: list[str], log: Path) -> int:
    """Run a lane, telling what it says, and keep that."""
    with log.open("wb") as file, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as lane:
        assert lane.stdout is not None
        while piece := os.read(lane.stdout.fileno(), 1 << 16):
            file.write(piece)
            _say(piece)
    return lane.returncode


def _follow(lane: subprocess.Popen[bytes], log: Path) -> int:
    """Tell what a lane has said, and what it says until it ends."""
    with log.open("rb") as file:
        while True:
            ended = lane.poll() is not None
            while piece := file.read(1 << 16):
                _say(piece)
            if ended:
                return lane.returncode
            time.sleep(0.5)


def _say(piece: bytes) -> None:
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _end(lane: subprocess.Popen[bytes]) -> None:
    """Ask a lane to end, as Ctrl-C would, so that its servers end with it."""
    if lane.poll() is None:
        lane.send_signal(signal.SIGINT)
        try:
            lane.wait(60)
        except subprocess.TimeoutExpired:
            lane.kill()


def _close(said: list[str], seconds: float) -> None:
    """Say what failed in both lanes, and the sum of their last lines."""
    counts: collections.Counter[str] = collections.Counter()
    for text in said:
        last = next(
            (line for line in reversed(text.splitlines()) if _LAST.match(line)), "1 error in 0.0s"
        )  # it did not come so far
        for number, word in _COUNT.findall(last.rpartition(" in ")[0]):
            counts[word if word in WORDS else word.removesuffix("s")] += int(number)
        for line in text.splitlines():
            if _FAILED.match(line):
                print(line[:300])
    plural = {word: "s" if word in ("warning", "error") and counts[word] > 1 else "" for word in WORDS}
    told = ", ".join(f"{counts[word]} {word}{plural[word]}" for word in WORDS if counts[word])
    minutes, rest = divmod(int(seconds), 60)
    line = f" {told} in {seconds:.2f}s ({minutes // 60}:{minutes % 60:02}:{rest:02}) "
    print(line.center(shutil.get_terminal_size().columns, "="), flush=True)


if __name__ == "__main__":
    sys.exit(main())
