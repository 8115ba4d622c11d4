"""With whose rights sources are fetched, and from where: a laptop's user, or a worker of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stillhouse.clients.sources.remote.credentials import Credential, choose, read_mounted
from stillhouse.clients.sources.remote.download import fetch
from stillhouse.clients.sources.remote.rules import Rules, rules_of

__all__ = ["SCHEMES", "Access", "fetch_remote", "of_user", "of_worker"]

SCHEMES = ("https", "http", "s3", "oci")
"""`http` is fetched where the rules open a host for it."""


@dataclass(frozen=True, slots=True)
class Access:
    """`own`: beside `credentials`, those of the environment may be used (a laptop's user has them, a worker has none)."""

    rules: Rules
    credentials: tuple[Credential, ...] = ()
    own: bool = False

    def credential(self, uri: str) -> Credential | None:
        """Return the credential that is for a URI."""
        return choose(uri, self.credentials)


def of_user(environment: Mapping[str, str] | None = None) -> Access:
    """Return what a user of this machine has: every host that they name, and the usual variables of each service.

    Raises:
        UsageError: a variable of the rules cannot be read.
    """
    return Access(rules_of(os.environ if environment is None else environment, trusting=True), own=True)


def of_worker(environment: Mapping[str, str]) -> Access:
    """Return what the pod of a build has: the administrator's rules, and the Secrets that the operator mounted.

    Raises:
        UsageError: they cannot be read.
    """
    return Access(rules_of(environment, trusting=False), read_mounted(environment))


def fetch_remote(
    uri: str, access: Access, cache: Path, given: str, report: Callable[[int, int], None] | None = None
) -> tuple[Path, str]:
    """Fetch what a URI names, or find it in the cache; return its local path and the URI with what is fixed of it.

    Raises:
        StillhouseError: it may not be asked, is not open to us, or does not come.
    """
    from stillhouse.clients.sources.remote.web import Web

    web, credential = Web(access.rules), access.credential(uri)
    scheme = uri.partition("://")[0]
    if scheme == "s3":
        from stillhouse.clients.sources.remote.s3 import list_s3

        listing = list_s3(web, uri, credential)
    elif scheme == "oci":
        from stillhouse.clients.sources.remote.oci import list_oci

        listing = list_oci(web, uri, credential)
    else:
        from stillhouse.clients.sources.remote.https import list_https

        listing = list_https(web, uri, credential)
    return fetch(listing, cache, given, access.rules.max_bytes, report), listing.pinned
