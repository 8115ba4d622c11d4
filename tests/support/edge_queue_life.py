"""A process that fills a disk queue and delivers from it until it is killed.

`python -m tests.support.edge_queue_life FILE ROUND` tells what happened, in order and one line each: `put KEY` and `done KEY`
once the queue has answered, `sent KEY` where the backend answers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from stillhouse.edge.away.courier import Courier
from stillhouse.edge.away.queue import DiskQueue
from stillhouse.edge.away.records import Record
from stillhouse.edge.status import Code

__all__ = ["body_of"]


def body_of(key: str) -> bytes:
    """Give a key's body: from a few bytes to several pages."""
    return (key * (1 + sum(key.encode()) * 7 % 900)).encode()


def tell(word: str, key: str) -> None:
    """Write one line at once: a pipe takes it whole, and nothing is lost with this process."""
    os.write(1, f"{word} {key}\n".encode())


class TellingQueue(DiskQueue):
    """Tells of every settlement that the queue has answered."""

    async def settle(self, record: Record, code: int, message: str = "", body: bytes = b"") -> None:
        await super().settle(record, code, message, body)
        tell("done" if code == Code.OK else "failed", record.request.key)


async def send(record: Record) -> bytes:
    """Be the backend."""
    key = record.request.key
    tell("sent" if record.request.body == body_of(key) else "wrong", key)
    await asyncio.sleep(0.001)
    return key.encode()


async def fill(queue: DiskQueue, name: str) -> None:
    """Put one request after the other, for ever."""
    number = 0
    while True:
        key = f"{name}-{number}"
        await queue.put("/infer", body_of(key), key=key)
        tell("put", key)
        number += 1


async def main(path: Path, name: str) -> None:
    """Fill from four sides and deliver."""
    queue = await TellingQueue.open(path)
    tell("open", name)
    async with asyncio.TaskGroup() as tasks:
        for each in range(4):
            tasks.create_task(fill(queue, f"{name}.{each}"))
        tasks.create_task(Courier(queue, send, at_once=4).run())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
