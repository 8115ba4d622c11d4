"""A client inside the cluster's network: `python asking.py ADDRESS MODEL [--threads N] [--requests N] [--pause S]`.

It is the documented client (round_robin, three retries for UNAVAILABLE). Prints one JSON object: answers, failures with their
texts, answers by the digest that gave them where `--provenance` asks for it, milliseconds of the first.
"""

from __future__ import annotations

import argparse
import collections
import json
import signal
import threading
import time
from typing import Any

from stillhouse.clients.triton import TritonClient
from stillhouse.errors import StillhouseError

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
    told = collections.Counter[str]()
    failures = collections.Counter[str]()
    slowest = 0.0
    lock = threading.Lock()

    def ask(position: int) -> None:
        nonlocal slowest
        with TritonClient(given.address, timeout_s=10.0) as client:
            done = 0
            while not stop.is_set() and (not given.requests or done < given.requests):
                started = time.monotonic()
                try:
                    answer = client.infer_texts(given.model, [_TEXTS[(position + done) % len(_TEXTS)]], provenance=True)
                    with lock:
                        told[str((answer.provenance or [{}])[0].get("digest", ""))] += 1
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
        "answers": sum(told.values()),
        "digests": told,
        "failures": failures,
        "slowest_s": round(slowest, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
