"""`oci://REGISTRY/REPOSITORY[:TAG|@DIGEST]`: a folder as an OCI artifact, one layer a file, as `oras push` makes it too.

A layer's file has the name of its annotation `org.opencontainers.image.title`. A tag is pinned to the digest of its manifest. The
protocol is spoken here and not by oras-py: that one resumes nothing and takes neither our address checks nor our redirect rules.
Where no credential is given, on a user's machine: `auths` of the docker configuration (DOCKER_CONFIG, ~/.docker), else the
registry is asked as anybody.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from stillhouse.clients.sources.packing import SUFFIX
from stillhouse.clients.sources.remote.credentials import Credential, docker_login
from stillhouse.clients.sources.remote.download import Changed, Listing, RemoteFile, blocks_of, sha256_of
from stillhouse.clients.sources.remote.web import Answer, Web, origin, refusal
from stillhouse.errors import EnvironmentProblem, SourceError

__all__ = ["FILE", "MANIFEST", "TITLE", "Reference", "Registry", "list_oci", "parse_oci"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
FILE = "io.stillhouse.source.file"
"""Annotation of a manifest: the one file that is the source, where it is no folder."""
_ACCEPT = f"{MANIFEST}, application/vnd.docker.distribution.manifest.v2+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DOCKER_HUB = ("docker.io", "index.docker.io")


@dataclass(frozen=True, slots=True)
class Reference:
    """`version` is a tag or a digest."""

    host: str
    repository: str
    version: str


def parse_oci(uri: str) -> Reference:
    """Split a URI.

    Raises:
        SourceError: it is not of this form.
    """
    host, _, rest = uri.removeprefix("oci://").partition("/")
    repository, at, digest = rest.partition("@")
    repository, colon, tag = repository.partition(":")
    version = digest if at else tag if colon else "latest"
    well = _DIGEST.fullmatch(version) if at else _TAG.fullmatch(version)
    if not host or not _REPOSITORY.fullmatch(repository) or not well or "@" in host:
        raise SourceError(
            "this is no artifact of a registry",
            field="uri",
            found=uri,
            allowed="oci://REGISTRY/REPOSITORY, with :TAG or @sha256:DIGEST",
            fix="write it as oras and docker do, with the registry's host",
        )
    return Reference("registry-1.docker.io" if host in _DOCKER_HUB else host, repository, version)


class Registry:
    """One repository of a registry. It asks for a token when it is told to, and sends it to that registry alone."""

    def __init__(self, web: Web, reference: Reference, credential: Credential | None = None, *, push: bool = False) -> None:
        self._web = web
        self._reference = reference
        self._login = _login(reference.host, credential, own=web.rules.trusting)
        self._authorization = f"Bearer {credential.values['token']}" if credential and credential.values.get("token") else ""
        self._actions = "pull,push" if push else "pull"
        self.base = f"{_scheme(web, reference.host)}://{reference.host}/v2/{reference.repository}"

    def send(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None) -> Answer:
        """Send a request; `path` is below the repository, or a whole URL of the same registry. A challenge is answered once."""
        url = path if "://" in path else self.base + path
        ours = origin(url) == origin(self.base)
        secret = {"Authorization": self._authorization} if self._authorization and ours else {}
        answer = self._web.send(method, url, headers, secret=secret, body=body)
        if answer.status == 401 and ours:
            challenge = answer.headers.get("www-authenticate", "")
            answer.close()
            self._authorization = self._answer_to(challenge)
            if self._authorization:
                answer = self._web.send(method, url, headers, secret={"Authorization": self._authorization}, body=body)
        return answer

    def _answer_to(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        basic = base64.b64encode(":".join(self._login).encode()).decode() if self._login else ""
        if kind.lower() == "basic":
            return f"Basic {basic}" if basic else ""
        if kind.lower() != "bearer":
            return ""
        said = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = said.get("realm", "")
        query = {"service": said.get("service", ""), "scope": f"repository:{self._reference.repository}:{self._actions}"}
        # The registry says who gives tokens; a password goes there only where that is the registry itself or its domain.
        trusted = basic and _related(realm, self.base)
        answer = self._web.send(
            "GET",
            f"{realm}?{urlencode(query)}",
            secret={"Authorization": f"Basic {basic}"} if trusted else {},
            named=_related(realm, self.base),
        )
        if answer.status != 200:
            raise refusal(answer, realm, "no token was given")
        with contextlib.suppress(ValueError, AttributeError):
            told = json.loads(answer.read())
            return f"Bearer {told.get('token') or told['access_token']}"
        return ""

    def manifest(self, version: str) -> tuple[dict[str, Any], str]:
        """Return a manifest and its digest.

        Raises:
            SourceError: there is none, or it is not what its digest says.
        """
        answer = self.send("GET", f"/manifests/{version}", {"Accept": _ACCEPT})
        if answer.status != 200:
            raise refusal(answer, f"oci://{self._reference.host}/{self._reference.repository}:{version}")
        content = answer.read()
        digest = f"sha256:{sha256_of(content)}"
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if version.startswith("sha256:") and digest != version:
            raise SourceError("the manifest is not the one that was named", field="uri", found=digest, allowed=version)
        if not isinstance(found, dict) or not isinstance(found.get("layers"), list):
            raise SourceError(
                "this is no artifact of files",
                field="uri",
                found=str((found or {}).get("mediaType", "unknown"))[:100] if isinstance(found, dict) else "no JSON object",
                allowed="a manifest with one layer a file",
                fix="oras push, or still push --to oci://…",
            )
        return found, digest


def list_oci(web: Web, uri: str, credential: Credential | None = None) -> Listing:
    """Ask what a URI names.

    Raises:
        SourceError, UnsafeSource, EnvironmentProblem: it is no such URI, is not open to us, or the registry does not answer.
    """
    reference = parse_oci(uri)
    registry = Registry(web, reference, credential)
    manifest, digest = registry.manifest(reference.version)
    files = {}
    for layer in manifest["layers"]:
        title = str((layer.get("annotations") or {}).get(TITLE, ""))
        found, size = str(layer.get("digest", "")), layer.get("size")
        if title and _DIGEST.fullmatch(found) and isinstance(size, int):
            files[title] = _file(registry, found, size)
    single = str((manifest.get("annotations") or {}).get(FILE, ""))
    pinned = f"oci://{reference.host}/{reference.repository}@{digest}"
    return Listing(pinned, files, pinned, single=single if single in files or single + SUFFIX in files else "")


def _file(registry: Registry, digest: str, size: int) -> RemoteFile:
    @contextlib.contextmanager
    def opened(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        answer = registry.send("GET", f"/blobs/{digest}", {"Range": f"bytes={offset}-"} if offset else None)
        try:
            if answer.status not in (200, 206):
                raise refusal(answer, digest)
            if answer.status == 206 and not answer.headers.get("content-range", "").startswith(f"bytes {offset}-"):
                raise Changed
            yield (offset if answer.status == 206 else 0), blocks_of(answer.raw)
        finally:
            answer.close()

    return RemoteFile(size, digest, opened, sha256=digest.removeprefix("sha256:"))


def _scheme(web: Web, host: str) -> str:
    """Return http where it is opened for this registry, as it is for one on this machine: both say so beforehand."""
    parts = urlsplit(f"http://{host}")
    with contextlib.suppress(SourceError, ValueError):
        web.rules.check_name("http", parts.hostname or "", parts.port or 80, named=True)
        return "http"
    return "https"


def _login(host: str, credential: Credential | None, *, own: bool) -> tuple[str, str] | None:
    if credential is not None:
        if credential.values.get(".dockerconfigjson"):
            return docker_login(credential.values[".dockerconfigjson"], host, credential.name)
        if credential.values.get("token"):
            return None
        user, password = credential.need("username", "password")
        return user, password
    if not own:
        return None
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentProblem("the docker configuration cannot be read", field=str(path), found=str(error)) from error
    return docker_login(text, host, str(path))


def _related(realm: str, base: str) -> bool:
    """Return whether a token's server belongs to the registry: the same host, or the same domain of two parts, over TLS."""
    theirs, ours = origin(realm), origin(base)
    if theirs[1:] == ours[1:] and theirs[0] == ours[0]:
        return True
    return theirs[0] == "https" == ours[0] and theirs[1].split(".")[-2:] == ours[1].split(".")[-2:] and theirs[1].count(".") > 0
