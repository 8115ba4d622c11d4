"""A client inside the cluster's network: `python asking.py ADDRESS MODEL [--threads N] [--requests N] [--pause S]`.

It is the documented client (round_robin, three retries for UNAVAILABLE). Prints one JSON object: answers, by the digest that
gave them, failures with their texts, retries, when the first came, seconds of the slowest.
"""

from __future__ import annotations

import argparse
import collections
import json
import signal
import threading
import time
from datetime import UTC, datetime
from typing import Any

from stillhouse.clients.triton import RETRIES, TritonClient
from stillhouse.errors import ServerError, StillhouseError

_UNREACHABLE = "not reachable"
_TEXTS = ("open a file for reading", "sort a list in place", "return the square root", "parse a date", "join two paths")


def main() -> None:
    """Ask until the number is reached, or SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1, help="of each thread; 0: until SIGTERM")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--wait", type=float, default=30.0, help="how long the first answer may take")
    given = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    digests = collections.Counter[str]()
    told = collections.Counter[str]()
    failures = collections.Counter[str]()
    slowest = 0.0
    told_first: list[str] = []
    lock = threading.Lock()

    def answered(client: TritonClient, text: str) -> str:
        """Return the digest that answered. Retries are the documented client's, done here so that they can be counted."""
        pause = 0.05
        for left in range(RETRIES, -1, -1):
            try:
                answer = client.infer_texts(given.model, [text], provenance=True)
                return str((answer.provenance or [{}])[0].get("digest", ""))
            except ServerError as error:
                if not left or _UNREACHABLE not in str(error):
                    raise
                with lock:
                    told["retries"] += 1
                time.sleep(pause)
                pause = min(1.0, pause * 3)
        raise AssertionError("the last attempt returns or raises")

    def ask(position: int) -> None:
        nonlocal slowest
        with TritonClient(given.address, timeout_s=10.0, retries=0) as client:
            done = 0
            while not stop.is_set() and (not given.requests or done < given.requests):
                started = time.monotonic()
                try:
                    digest = answered(client, _TEXTS[(position + done) % len(_TEXTS)])
                    with lock:
                        if not told_first:
                            told_first.append(datetime.now(UTC).isoformat())
                        digests[digest] += 1
                        slowest = max(slowest, time.monotonic() - started)
                except StillhouseError as error:
                    with lock:
                        failures[str(error)[:300]] += 1
                done += 1
                if given.pause:
                    stop.wait(given.pause)

    with TritonClient(given.address, timeout_s=5.0) as client:
        deadline = time.monotonic() + given.wait
        while not client.ready(given.model) and time.monotonic() < deadline and not stop.is_set():
            time.sleep(0.1)
    threads = [threading.Thread(target=ask, args=(position,)) for position in range(given.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result: dict[str, Any] = {
        "answers": sum(digests.values()),
        "digests": digests,
        "failures": failures,
        "retries": told["retries"],
        "first": told_first[0] if told_first else None,
        "slowest_s": round(slowest, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
