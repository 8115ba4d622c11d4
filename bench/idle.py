"""What clients cost that are connected and say nothing: memory of the gateway for each, and how long others wait.

Example:
    python -m bench.idle --connections 10000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import socket
import subprocess
import sys
import time

import psutil

from stillhouse.edge.oip.messages import SERVICE
from stillhouse.edge.wire.client import Channel

__all__ = ["main"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_COMMAND = (sys.executable, "-m", "stillhouse.entrypoints.gateway", "--listen", "127.0.0.1:0", "--model", "m=127.0.0.1:9")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    count = parser.parse_args().connections
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gateway = subprocess.Popen(_COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert gateway.stdout is not None
        address = gateway.stdout.readline().split()[-1]
        print(json.dumps(asyncio.run(_measured(gateway.pid, address, count)), indent=1))
    finally:
        gateway.terminate()
        gateway.wait(60)


async def _measured(pid: int, address: str, count: int) -> dict[str, object]:
    process, channel = psutil.Process(pid), Channel(address)
    await _live(channel)
    before = process.memory_info().rss
    host, _, port = address.rpartition(":")
    found: dict[str, object] = {"connections": count, "rss_mb_before": round(before / 1e6, 1)}
    for kind, said in (("silent", b""), ("http2", _PREFACE)):
        lines = []
        for _ in range(count):
            lines.append(socket.create_connection((host, int(port)), timeout=30))
            lines[-1].sendall(said)
        for _ in range(600):
            if len(process.net_connections()) > count:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        took = [await _live(channel) for _ in range(50)]
        grown = process.memory_info().rss - before
        found[kind] = {
            "rss_mb": round(grown / 1e6, 1),
            "kb_each": round(grown / count / 1e3, 2),
            "p50_ms_of_others": round(sorted(took)[25] * 1e3, 2),
        }
        for line in lines:
            line.close()
        await asyncio.sleep(3)
    await channel.close()
    return found


async def _live(channel: Channel) -> float:
    begun = time.perf_counter()
    await channel.unary(f"/{SERVICE}/ServerLive", b"", timeout_s=10)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
