"""HTTP for sources: it connects to the address that was checked, follows few redirects, takes no credential to another host.

urllib3 is given the address itself, and the host's name for TLS and the `Host` header: between check and connection nothing is
looked up a second time, so a name whose address changes (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from stillhouse.clients.sources.remote.rules import Rules
from stillhouse.errors import EnvironmentProblem, SourceError, UnsafeSource

__all__ = ["Answer", "Web", "origin", "refusal"]

REDIRECTS = 3
_CONNECT_S = 10.0
_READ_S = 60.0
_MOVED = (301, 302, 303, 307, 308)
_AGENT = "stillhouse"
_PORTS = {"http": 80, "https": 443}
Lookup = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body has not been read. `raw` is urllib3's; `url` is where it came from in the end."""

    status: int
    headers: Mapping[str, str]
    url: str
    raw: Any

    def read(self, limit: int = 4 << 20) -> bytes:
        """Return the whole body and let the connection go.

        Raises:
            SourceError: it is larger than `limit` bytes.
        """
        try:
            content: bytes = self.raw.read(limit + 1, decode_content=True)
        finally:
            self.raw.release_conn()
        if len(content) > limit:
            raise SourceError(
                "the answer is larger than any of its kind", field="uri", found=self.url, allowed=f"at most {limit} bytes"
            )
        return content

    def close(self) -> None:
        """Read no further."""
        self.raw.close()


class Web:
    """A client. `lookup` maps (host, port) to addresses; a test gives its own."""

    def __init__(self, rules: Rules, *, lookup: Lookup | None = None) -> None:
        self._rules = rules
        self._lookup = lookup or _addresses
        self._pools: dict[tuple[str, str, int, str], Any] = {}
        self._context: ssl.SSLContext | None = None

    @property
    def rules(self) -> Rules:
        """Return what may be reached."""
        return self._rules

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        secret: Mapping[str, str] | None = None,
        body: Any = None,
        redirects: int = REDIRECTS,
        named: bool = True,
    ) -> Answer:
        """Send a request, follow redirects of what has no body (none with `redirects` 0).

        `secret` are headers that go to this very origin and no other.

        Raises:
            UnsafeSource: a URL on the way may not be asked.
            EnvironmentProblem: nobody answers.
        """
        here, keep = url, dict(secret or {})
        for _ in range(redirects + 1):
            answer = self._once(method, here, {**(headers or {}), **keep}, body, named=named)
            target = answer.headers.get("location")
            if answer.status not in _MOVED or not target or body is not None or not redirects:
                return answer
            answer.close()
            following = urljoin(here, target)
            if urlsplit(here).scheme == "https" and urlsplit(following).scheme != "https":
                raise UnsafeSource(
                    "a redirect leads away from https",
                    field="uri",
                    found=f"{_bare(here)} → {_bare(following)}",
                    allowed="https://",
                )
            if origin(following) != origin(here):
                keep = {}
            named = named and origin(following) == origin(url)
            here = following
        raise UnsafeSource(
            f"more than {redirects} redirects",
            field="uri",
            found=_bare(url),
            allowed=f"at most {redirects}",
            fix="write the URL that they lead to",
        )

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: Any, *, named: bool) -> Answer:
        parts = urlsplit(url)
        host, port = _host(parts, url)
        self._rules.check_name(parts.scheme, host, port, named=named)
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (f"?{parts.query}" if parts.query else "")
        sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers, "Host": parts.netloc.rpartition("@")[2]}
        proxy = self._proxy(parts.scheme, host)
        if proxy:
            return self._ask(self._through(proxy), method, url, sent, body, url)
        last: Exception | None = None
        for address in self._checked(host, port, named=named):
            try:
                return self._ask(self._pool(parts.scheme, host, port, address), method, target, sent, body, url)
            except _NotConnected as error:
                last = error
        raise _unreachable(url, last or OSError("no address"))

    def _checked(self, host: str, port: int, *, named: bool) -> list[str]:
        # A name that nobody opened is looked up as it is: a pod's resolver would try it as a Service of the cluster first.
        literal = _is_address(host)
        name = host if literal or self._rules.opened(host, port, named=named) else host.rstrip(".") + "."
        try:
            found = [host] if literal else list(dict.fromkeys(self._lookup(name, port)))
        except (OSError, UnicodeError) as error:
            raise EnvironmentProblem(
                "the host is not known", field="uri", found=f"{host}: {error}"[:200], fix="check the name, and DNS"
            ) from error
        for address in found:
            self._rules.check_address(host, port, address, named=named)
        return found

    def _pool(self, scheme: str, host: str, port: int, address: str) -> Any:
        import urllib3

        key = (scheme, host, port, address)
        if key not in self._pools:
            common: dict[str, Any] = {"timeout": urllib3.Timeout(connect=_CONNECT_S, read=_READ_S), "maxsize": 4}
            if scheme == "https":
                name = host if not _is_address(host) else address
                self._pools[key] = urllib3.HTTPSConnectionPool(
                    address, port, ssl_context=self._tls(), server_hostname=name, assert_hostname=name, **common
                )
            else:
                self._pools[key] = urllib3.HTTPConnectionPool(address, port, **common)
        return self._pools[key]

    def _proxy(self, scheme: str, host: str) -> str:
        """Return the proxy of a laptop's environment. A worker has none: behind one nobody could say what is reached."""
        if not self._rules.trusting or urllib.request.proxy_bypass(host) or _is_address(host):
            return ""
        return urllib.request.getproxies().get(scheme, "")

    def _through(self, proxy: str) -> Any:
        import urllib3

        return urllib3.ProxyManager(proxy, timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S), ssl_context=self._tls())

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or None)
        return self._context

    @staticmethod
    def _ask(pool: Any, method: str, target: str, headers: Mapping[str, str], body: Any, url: str) -> Answer:
        import urllib3.exceptions as wrong

        options: dict[str, Any] = {"headers": headers, "body": body, "retries": False, "redirect": False}
        try:
            raw = pool.urlopen(method, target, preload_content=False, decode_content=False, **options)
        except (wrong.NewConnectionError, wrong.ConnectTimeoutError) as error:
            raise _NotConnected(str(error)) from error
        except wrong.HTTPError as error:
            raise _unreachable(url, error) from error
        return Answer(int(raw.status), {name.lower(): value for name, value in raw.headers.items()}, url, raw)


class _NotConnected(Exception):
    """Nobody listens at one of a host's addresses."""


def origin(url: str) -> tuple[str, str, int]:
    """Return (scheme, host, port) of a URL: what a credential is for."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def refusal(answer: Answer, uri: str, what: str = "") -> SourceError | EnvironmentProblem:
    """Return the error of an answer that is none of success, and let the connection go."""
    answer.close()
    found = f"{uri}: {answer.status}{f' ({what})' if what else ''}"
    if answer.status in (401, 403):
        return SourceError(
            "the source is not open to us",
            field="uri",
            found=found,
            allowed="a source that may be read",
            fix="in a cluster: spec.credentials with a Secret for it; on one machine: the usual variables of its service",
        )
    if answer.status in (404, 410):
        return SourceError("nothing is there", field="uri", found=found, allowed="a source that exists", fix="check the URI")
    if answer.status == 429 or answer.status >= 500:
        return EnvironmentProblem("the source's server is in trouble", field="uri", found=found, fix="try again later")
    return SourceError("the source's server refuses", field="uri", found=found, allowed="200", fix="check the URI")


def _host(parts: SplitResult, url: str) -> tuple[str, int]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UnsafeSource("this is no URL", field="uri", found=_bare(url), allowed="https://HOST/PATH") from error
    if not host or "@" in parts.netloc:
        raise UnsafeSource(
            "a URL here names a host, and no user",
            field="uri",
            found=_bare(url),
            allowed="https://HOST/PATH",
            fix="put a password into a Secret: spec.credentials",
        )
    return host, port or _PORTS.get(parts.scheme, 0)


def _bare(url: str) -> str:
    """Return a URL for people: without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:300]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _addresses(host: str, port: int) -> list[str]:
    return [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _unreachable(url: str, error: Exception) -> EnvironmentProblem:
    return EnvironmentProblem(
        "the source cannot be reached",
        field="uri",
        found=f"{_bare(url)}: {type(error).__name__}: {error}"[:300],
        fix="check the connection, then run the command again: what has come is kept",
    )
