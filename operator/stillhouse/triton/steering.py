"""Sends new connections to one of two servers that share a port, by a filter in the kernel.

Servers that listen on one port with SO_REUSEPORT form a group; the kernel keeps its members in the order in which they
began to listen and deals new connections out by a hash. A classic BPF program attached to any member replaces the hash:
it returns the index of the member that gets the connection (socket(7), SO_ATTACH_REUSEPORT_CBPF, Linux 4.5). No
privilege is needed beyond being the same user. Ours joins as a member for the moment that it takes to attach the program.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["Listeners", "connections", "listeners", "program", "steer"]

_SO_ATTACH_REUSEPORT_CBPF = 51
# linux/bpf_common.h and linux/filter.h
_LOAD_WORD_ABSOLUTE, _MODULO, _ADD, _RETURN_A = 0x20, 0x94, 0x04, 0x16
_RANDOM = (-0x1000 + 56) & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Listeners:
    """Listening sockets of one process on one port: how many, and of which address family."""

    count: int
    family: int


def listeners(pid: int, port: int) -> Listeners:
    """Return how process `pid` listens on `port`."""
    found = [item for item in _sockets(pid, port) if item.status == "LISTEN"]
    return Listeners(len(found), int(found[0].family) if found else 0)


def connections(pid: int, port: int) -> int:
    """Return how many clients are connected to process `pid` on `port`."""
    return sum(1 for item in _sockets(pid, port) if item.status == "ESTABLISHED")


def program(first: int, count: int) -> bytes:
    """Return the filter "a random one of the `count` members from index `first` on", as `struct sock_filter[]`."""
    steps = [(_LOAD_WORD_ABSOLUTE, _RANDOM), (_MODULO, count), (_ADD, first), (_RETURN_A, 0)]
    return b"".join(struct.pack("HBBI", code, 0, 0, value) for code, value in steps)


def steer(host: str, port: int, old: Listeners, new: Listeners) -> bool:
    """Send every new connection to the members that joined after the first `old.count`.

    Returns:
        False where the kernel does not do it (or this is not Linux); nothing has changed then. Connections that exist
        stay where they are.
    """
    if sys.platform != "linux" or not old.count or not new.count or old.family != new.family:
        return False
    code = program(old.count, new.count)
    buffer = ctypes.create_string_buffer(code, len(code))
    argument = struct.pack("HL", len(code) // 8, ctypes.addressof(buffer))
    try:
        with _member(host, port, old.family) as member:
            member.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, argument)
            _give_back(member)
    except OSError:
        return False
    return True


def _member(host: str, port: int, family: int) -> socket.socket:
    """Join the group. gRPC listens on IPv4 addresses by IPv6 sockets where there is IPv6; groups do not mix families."""
    member = socket.socket(socket.AddressFamily(family), socket.SOCK_STREAM)
    try:
        member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        address = host
        if family == socket.AF_INET6 and ":" not in host:
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            address = f"::ffff:{host}"
        member.bind((address, port))
        member.listen(16)
    except OSError:
        member.close()
        raise
    return member


def _give_back(member: socket.socket) -> None:
    """Close what was dealt to us between listen and attach (microseconds): its client connects again."""
    member.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            member.accept()[0].close()


def _sockets(pid: int, port: int) -> list[Any]:
    import psutil

    try:
        found = psutil.Process(pid).net_connections(kind="tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
    return [item for item in found if item.laddr and item.laddr.port == port]
