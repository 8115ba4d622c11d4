"""What is asked of an API server. Objects are plain JSON data, as the server sends them.

Every write can be repeated, and is conditional on what it was decided from: see docs/design/20261124-operator.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from stillhouse.clients.kube.kinds import Kind
from stillhouse.errors import ClusterError

__all__ = [
    "FIELD_MANAGER",
    "AlreadyExists",
    "Body",
    "Conflict",
    "Forbidden",
    "Invalid",
    "Kube",
    "KubeError",
    "Missing",
    "Unavailable",
    "refusal",
]

FIELD_MANAGER = "stillhouse"

Body = dict[str, Any]


class KubeError(ClusterError):
    """The API server refused, or could not be asked. `status` is the HTTP status, 0 where there was no answer."""

    def __init__(self, message: str, *, status: int = 0, retry_after_s: float = 0.0, **parts: Any) -> None:
        super().__init__(message, **parts)
        self.status = status
        self.retry_after_s = retry_after_s


class AlreadyExists(KubeError):
    """409 to a POST: an object of that name is there."""


class Conflict(KubeError):
    """409 to a write that depends on a uid or a resourceVersion: the object is another, or a newer one."""


class Missing(KubeError):
    """404: the object, its namespace or its kind is not there."""


class Forbidden(KubeError):
    """401 or 403: our account may not, a quota or Pod Security refuses, or the namespace is terminating."""


class Invalid(KubeError):
    """400 or 422: the server does not accept the object, and will not later."""


class Unavailable(KubeError):
    """No answer, 429 or 5xx: later it may work."""


_KINDS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: Missing,
    410: Conflict,
    422: Invalid,
}


def refusal(status: int, reason: str, message: str, what: str, retry_after_s: float = 0.0) -> KubeError:
    """Return the error of an answer that is none of success. `reason` and `message` are of the server's Status object."""
    if status == 409:
        kind: type[KubeError] = AlreadyExists if reason == "AlreadyExists" else Conflict
    else:
        kind = _KINDS.get(status, Unavailable)
    return kind(
        "the API server refused", status=status, retry_after_s=retry_after_s, field=what, found=f"{status} {message}"[:1000]
    )


class Kube(Protocol):
    """An API server. Every method raises `KubeError` where the server does not do what is asked."""

    async def serves(self, kind: Kind) -> bool:
        """Return whether the server knows a kind. Everybody who is authenticated may ask that."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Return an object, None where there is none."""

    async def look(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Return an object's metadata alone, None where there is none: nothing else of it leaves the server."""

    async def find(self, kind: Kind, namespace: str = "", labels: str = "") -> list[Body]:
        """Return the objects of a namespace (of all where empty) that a label selector chooses."""

    async def create(self, kind: Kind, namespace: str, body: Body, *, manager: str = FIELD_MANAGER) -> Body:
        """Create an object by POST; raises `AlreadyExists`."""

    async def apply(self, kind: Kind, namespace: str, body: Body, *, manager: str = FIELD_MANAGER) -> Body:
        """Apply an object server-side, taking over what we want of it; `metadata.uid` must be set, else it could be another's.

        Raises `Conflict` where the object of that name has another uid, `Missing` where it is gone.
        """

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | list[Mapping[str, Any]],
        *,
        subresource: str = "",
        manager: str = FIELD_MANAGER,
    ) -> Body:
        """Patch an object: a mapping is a JSON merge patch, a list a JSON patch."""

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the object of that uid with everything that it owns, in the background; one that is gone is no error."""
