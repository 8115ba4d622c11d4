"""Where a source may lie: public addresses, and what the administrator opens. Pure.

Whoever writes a DistilledModel writes URIs that a pod of the cluster then asks for. Without rules that pod would read for them
what only pods can reach: the API server, a cloud's metadata service, a database without a password.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from stillhouse.errors import UnsafeSource, UsageError

__all__ = ["HOSTS_VARIABLE", "LIMIT_VARIABLE", "MAX_BYTES", "NETWORKS_VARIABLE", "Rules", "rules_of"]

HOSTS_VARIABLE = "STILLHOUSE_SOURCE_HOSTS"
NETWORKS_VARIABLE = "STILLHOUSE_SOURCE_NETWORKS"
LIMIT_VARIABLE = "STILLHOUSE_SOURCE_LIMIT"
MAX_BYTES = 64 << 30
"""Largest source that is fetched where nobody says otherwise."""
_SETTING = "value fetching.allowedHosts (or fetching.allowedNetworks) of the chart"
_INNER = (".svc", ".cluster.local", ".local", ".localhost", ".internal", ".home.arpa")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be connected to.

    `hosts` are opened by name, whatever their address: `HOST`, `HOST:PORT`, `*.DOMAIN`, and `http://HOST[:PORT]`, which opens
    plain HTTP as well. `networks` are opened by address. `trusting`: the user of a laptop asks for what they could ask for
    themselves, so what they name is opened; where a server sends them on is not. `max_bytes` is the largest source.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    trusting: bool = False
    max_bytes: int = MAX_BYTES

    def check_name(self, scheme: str, host: str, port: int, *, named: bool) -> None:
        """Check what a URL says, before anything is looked up. `named`: by the user, not by a server's redirect.

        Raises:
            UnsafeSource: it may not be asked.
        """
        if scheme not in ("https", "http"):
            raise _refused("only https is fetched", f"{scheme}://{host}", "https://")
        if scheme == "http" and not self._opens(host, port, plain=True) and not (self.trusting and named and _is_loopback(host)):
            raise _refused(
                "plain HTTP is not fetched: anybody on the way could read and change it",
                f"http://{host}:{port}",
                "https://",
                f"use https, or ask the administrator: http://{host} in {_SETTING}",
            )
        if self.opened(host, port, named=named):
            return
        name = host.rstrip(".").lower()
        if _address(name) is None and ("." not in name or name.endswith(_INNER)):
            raise _refused(
                "this host is one of the cluster or of this machine", host, "a public host", f"ask the administrator: {_SETTING}"
            )

    def opened(self, host: str, port: int, *, named: bool) -> bool:
        """Return whether a host is opened by its name."""
        return (self.trusting and named) or self._opens(host, port, plain=False)

    def check_address(self, host: str, port: int, address: str, *, named: bool) -> None:
        """Check what a name was resolved to; exactly this address is then connected to.

        Raises:
            UnsafeSource: it is not public, and nobody opened it.
        """
        if self.opened(host, port, named=named):
            return
        found = ipaddress.ip_address(address.partition("%")[0])
        for each in _meanings(found):
            if any(each.version == network.version and each in network for network in self.networks):
                continue
            if not each.is_global or each.is_multicast:
                raise _refused(
                    "this address is private, local or of the cluster",
                    f"{host} is {address}",
                    "a public address",
                    f"ask the administrator: {_SETTING}",
                )

    def _opens(self, host: str, port: int, *, plain: bool) -> bool:
        name = host.rstrip(".").lower()
        for entry in self.hosts:
            scheme, separator, rest = entry.lower().rpartition("://")
            if plain and scheme != "http":
                continue
            if separator and scheme not in ("http", "https"):
                continue
            wanted, wanted_port = _split(rest)
            if wanted_port not in (None, port):
                continue
            if wanted == name or (wanted.startswith("*.") and name.endswith(wanted[1:])):
                return True
        return False


def rules_of(environment: Mapping[str, str], *, trusting: bool) -> Rules:
    """Return the rules that the environment says (comma between entries), as `resources/jobs.py` writes it for a worker.

    Raises:
        UsageError: a network or the limit is none.
    """
    networks: list[Network] = []
    for text in _entries(environment.get(NETWORKS_VARIABLE, "")):
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError as error:
            raise UsageError("this is no network", field=NETWORKS_VARIABLE, found=text, allowed="10.0.0.0/8") from error
    limit = environment.get(LIMIT_VARIABLE) or str(MAX_BYTES)
    if not limit.isdecimal():
        raise UsageError("this is no number of bytes", field=LIMIT_VARIABLE, found=limit, allowed=str(MAX_BYTES))
    return Rules(tuple(_entries(environment.get(HOSTS_VARIABLE, ""))), tuple(networks), trusting, int(limit))


def _entries(text: str) -> Sequence[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _split(text: str) -> tuple[str, int | None]:
    """Return (host, port) of `HOST[:PORT]` or `[V6][:PORT]`."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    return host.rstrip("."), int(port) if port.isdecimal() else None


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    found = _address(host)
    return host.lower() == "localhost" if found is None else found.is_loopback


def _meanings(address: Address) -> list[Address]:
    """Return an address and the IPv4 address that a tunnel or a translator would take it for."""
    found: list[Address] = [address]
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return [address.ipv4_mapped]
        if address.sixtofour is not None:  # whether it is itself a public one differs between Python's patch releases
            return [address.sixtofour]
        if address.teredo is not None:
            found += address.teredo
        if address in _NAT64:
            found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _refused(message: str, found: str, allowed: str, fix: str = "") -> UnsafeSource:
    return UnsafeSource(message, field="uri", found=found, allowed=allowed, fix=fix or f"write {allowed}…")
