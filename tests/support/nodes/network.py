"""A switch in node 1's namespace, a cable to every other node, and no way out."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.support.nodes.commands import CommandFailed, run
from tests.support.nodes.place import Place

__all__ = ["NOTES", "make", "remove", "within"]

NOTES = Path("/var/lib/cni/results")
"""Where the runtime's network plugins note what they made, for every cluster of the machine."""


def within(place: Place, node: int, *words: str) -> list[str]:
    """Return the command that runs `words` in a node's network namespace. (`ip netns exec` would hide the control groups.)"""
    return ["nsenter", f"--net={place.net(node)}", *words]


def make(place: Place) -> None:
    """Make the namespaces, the switch, the cables and the routes between the nodes' pods."""
    for node in range(1, place.nodes + 1):
        run("ip", "netns", "add", place.namespace(node))
        _ip(place, node, "link set lo up")
        run(*within(place, node, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
    _ip(place, 1, "link add switch0 type bridge")
    _ip(place, 1, f"addr add {place.address(1)}/24 dev switch0")
    _ip(place, 1, "link set switch0 up")
    _ip(place, 1, "route add default dev switch0")  # the API server wants one; it leads onto the switch alone
    for node in range(2, place.nodes + 1):
        _ip(place, 1, f"link add cable{node} type veth peer name eth0 netns {place.namespace(node)}")
        _ip(place, 1, f"link set cable{node} master switch0 up")
        _ip(place, node, f"addr add {place.address(node)}/24 dev eth0")
        _ip(place, node, "link set eth0 up")
        _ip(place, node, f"route add default via {place.address(1)}")
    for node in range(1, place.nodes + 1):
        for other in range(1, place.nodes + 1):
            if other != node:
                _ip(place, node, f"route add {place.pods(other)} via {place.address(other)}")


def remove(place: Place) -> None:
    """Remove the namespaces, with all that is in them, and the plugins' notes of pods, whose own lie in the runtime's folder."""
    listed = run("ip", "netns", "list").split("\n")
    mine = [line.split()[0] for line in listed if line.startswith(f"{place.name}-")]
    for name in mine:
        with contextlib.suppress(CommandFailed):
            run("ip", "netns", "del", name)
    for note in NOTES.glob("*"):
        with contextlib.suppress(OSError):
            if f"{place.folder}/" in note.read_text(errors="replace"):
                note.unlink()


def _ip(place: Place, node: int, words: str) -> None:
    run(*within(place, node, "ip", *words.split()))
