"""A gateway whose cloud is away, with policy `queue`, until it is killed.

`python -m tests.support.edge_cascade_life QUEUE NAME` asks for ever and tells `kept KEY TEXT` once the client has its answer.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from tests.support.cascades import SIGNATURE, TableLeg, ask_body, call, policy, read

from stillhouse.edge.cascade.away import AwaySettings, Way
from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.cascade.later import Later, LaterSettings
from stillhouse.edge.cascade.stages import CascadeSettings, Stage
from stillhouse.edge.status import Code, RpcError

__all__ = ["cascade_of"]

UNSURE = [0.4, 0.3, 0.3]


def cascade_of(later: Later, *, down: bool) -> Cascade:
    """Make a cascade whose small model is never sure."""
    edge = TableLeg("edge", time.monotonic, lambda text: UNSURE, usual=0.0)
    cloud = TableLeg(
        "cloud", time.monotonic, lambda text: [0.0, 1.0, 0.0], usual=RpcError(Code.UNAVAILABLE, "away") if down else 0.0
    )
    settings = AwaySettings(policy="queue")
    stages = [Stage(edge, policy()), Stage(Way(cloud, settings), None)]
    return Cascade("m", SIGNATURE, stages, CascadeSettings(away=settings), later=later)


async def main(path: Path, name: str) -> None:
    """Ask from four sides; deliver what will not be taken."""
    later = await Later.open(LaterSettings(path))
    cascade = cascade_of(later, down=True)
    later.start()
    os.write(1, b"open - -\n")

    async def side(letter: str) -> None:
        number = 0
        while True:
            text = f"{name}.{letter}{number}"
            _, told = read((await cascade.infer(call(), ask_body([text]))).message)
            os.write(1, f"kept {told['queued']} {text}\n".encode())
            number += 1

    await asyncio.gather(*[side(letter) for letter in "abcd"])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
