"""Who may read what: a credential is used for URIs below one prefix, and for nothing else.

| for | keys |
|---|---|
| `s3://BUCKET[/PREFIX]` | `accessKeyId`, `secretAccessKey`; `sessionToken`, `endpoint`, `region` where needed |
| `oci://HOST[/REPOSITORY]` | `username` and `password`, or `.dockerconfigjson` (type `kubernetes.io/dockerconfigjson`) |
| `hf://OWNER[/MODEL]` | `token` |
| `https://HOST[/PATH]` | `token` (Bearer), or `username` and `password` (Basic) |
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stillhouse.errors import SourceError, UsageError

__all__ = ["CREDENTIALS_VARIABLE", "Credential", "belongs", "choose", "docker_login", "read_mounted"]

CREDENTIALS_VARIABLE = "STILLHOUSE_CREDENTIALS"
_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """`prefix` says which URIs it is for, `values` are the Secret's keys, `name` is what messages call it."""

    prefix: str
    values: Mapping[str, str] = field(repr=False)
    name: str = ""

    def need(self, *keys: str) -> tuple[str, ...]:
        """Return the values of keys that must be there.

        Raises:
            SourceError: one is not.
        """
        missing = [key for key in keys if not self.values.get(key)]
        if missing:
            raise SourceError(
                "a credential lacks a key",
                field="spec.credentials",
                found=f"{self.name} has {', '.join(sorted(self.values)) or 'no keys'}",
                allowed=", ".join(keys),
                fix=f"add {', '.join(missing)} to Secret {self.name}",
            )
        return tuple(self.values[key] for key in keys)


def belongs(uri: str, prefix: str) -> bool:
    """Return whether a URI lies below a prefix: the same scheme and host, and whole parts of the path."""
    scheme, rest = _parts(uri)
    wanted_scheme, wanted = _parts(prefix)
    return scheme == wanted_scheme and rest[: len(wanted)] == wanted


def choose(uri: str, credentials: Sequence[Credential]) -> Credential | None:
    """Return the credential whose prefix is the longest that a URI lies below, None where none is for it."""
    found = [each for each in credentials if belongs(uri, each.prefix)]
    return max(found, key=lambda each: len(_parts(each.prefix)[1]), default=None)


def _parts(uri: str) -> tuple[str, list[str]]:
    scheme, _, rest = uri.partition("://")
    rest = rest.partition("#")[0].partition("?")[0]
    if scheme in ("oci", "hf"):
        rest = rest.partition("@")[0]
    parts = [part for part in rest.split("/") if part]
    if parts and scheme in ("https", "oci"):
        parts[0] = parts[0].lower()
    if scheme == "https" and parts:
        parts[0] = parts[0].removesuffix(":443")
    if scheme == "oci" and len(parts) > 1:
        parts[-1] = parts[-1].partition(":")[0]  # a tag
    return scheme.lower(), parts


def read_mounted(environment: Mapping[str, str]) -> tuple[Credential, ...]:
    """Read the Secrets that a pod has as files: the variable lists `{"for", "secret", "path"}`.

    Raises:
        UsageError: the variable is not what an operator of this version writes, or a file cannot be read.
    """
    found = []
    try:
        for each in json.loads(environment.get(CREDENTIALS_VARIABLE) or "[]"):
            folder = Path(each["path"])
            # `..data` and the like are how the kubelet changes all files at once; a key never begins with two dots.
            files = [file for file in sorted(folder.iterdir()) if not file.name.startswith("..") and file.is_file()]
            values = {file.name: file.read_bytes()[:_MAX].decode("utf-8").strip() for file in files}
            found.append(Credential(each["for"], values, each["secret"]))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(
            "the credentials cannot be read",
            field=CREDENTIALS_VARIABLE,
            found=f"{type(error).__name__}: {error}"[:200],
            fix="does the Secret hold text alone? install one version of operator and worker",
        ) from error
    return tuple(found)


def docker_login(text: str, host: str, name: str) -> tuple[str, str] | None:
    """Return (user, password) that a docker configuration (JSON) has for a registry, None where it has none.

    Raises:
        SourceError: it is no docker configuration.
    """
    try:
        auths = json.loads(text).get("auths") or {}
        for key, entry in auths.items():
            place = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
            if place.lower() != host.lower() and not (
                host == "registry-1.docker.io" and place in ("index.docker.io", "docker.io")
            ):
                continue
            if entry.get("auth"):
                user, _, password = base64.b64decode(entry["auth"]).decode("utf-8").partition(":")
                return user, password
            if entry.get("username"):
                return str(entry["username"]), str(entry.get("password", ""))
    except (ValueError, AttributeError, TypeError, binascii.Error) as error:
        raise SourceError(
            "this is no docker configuration",
            field=name,
            found=f"{type(error).__name__}",
            allowed='{"auths": {"HOST": {"auth": "…"}}}',
        ) from error
    return None
