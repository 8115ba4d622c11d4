"""Where requests and answers go: `REQUESTS/MODEL/DEVICE` and `ANSWERS/DEVICE/REQUEST`.

The device is in both, so that a broker can hold a device to its own name (Mosquitto: `pattern write REQUESTS/+/%u`), and the
bridge answers a device nowhere else than in its own place. `REQUEST` is a digest of the request's bytes: together with the
correlation data it says which request was answered, whoever answers.
"""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass

from stillhouse.edge.status import Code, Refused
from stillhouse.errors import UsageError

__all__ = ["Topics", "check_device", "digest_of", "machine"]

_LEVEL = re.compile(r"[^/+#\x00-\x1f]{1,128}")
_DEVICE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_NO_DEVICE = re.compile(r"[^A-Za-z0-9_.\-]")
_PREFIX = re.compile(r"[^/+#$\x00-\x1f][^/+#\x00-\x1f]*(/[^/+#\x00-\x1f]+)*")


@dataclass(frozen=True, slots=True)
class Topics:
    """The two prefixes, without a slash at their end."""

    requests: str = "stillhouse/infer"
    answers: str = "stillhouse/answers"

    def check(self) -> None:
        """Raise UsageError where a prefix is none, or one lies within the other."""
        for field, prefix in (("requests", self.requests), ("answers", self.answers)):
            if len(prefix) > 256 or not _PREFIX.fullmatch(prefix):
                raise UsageError(
                    "this is no prefix of topics", field=field, found=prefix[:200], allowed="levels/with/slashes, without +, #, $"
                )
        one, other = self.requests + "/", self.answers + "/"
        if one.startswith(other) or other.startswith(one):
            raise UsageError("requests and answers need prefixes apart", field="requests, answers", found=f"{one}, {other}")

    def request(self, model: str, device: str) -> str:
        """Return where a request goes. Raises `Refused` INVALID_ARGUMENT where the model's name is no level of a topic."""
        if not _LEVEL.fullmatch(model):
            raise Refused(Code.INVALID_ARGUMENT, f"the model {model[:100]!r} cannot be named by a topic")
        return f"{self.requests}/{model}/{device}"

    def answer(self, device: str, digest: str) -> str:
        """Return where an answer is wanted."""
        return f"{self.answers}/{device}/{digest}"

    def requests_of(self, model: str, group: str) -> str:
        """Return the shared subscription to a model's requests."""
        return f"$share/{group}/{self.requests}/{model}/+"

    def answers_of(self, device: str) -> str:
        """Return the subscription to a device's answers."""
        return f"{self.answers}/{device}/+"

    def asked(self, topic: str) -> tuple[str, str]:
        """Return model and device of a request's topic; empty ones where it is none."""
        rest = topic.removeprefix(self.requests + "/")
        model, slash, device = rest.partition("/")
        return (model, device) if rest != topic and slash and _DEVICE.fullmatch(device) else ("", "")

    def allows(self, device: str, response: str) -> bool:
        """Return whether a device may be answered there: in its own place, on a topic that can be published to."""
        rest = response.removeprefix(f"{self.answers}/{device}/")
        return bool(device) and rest != response and _LEVEL.fullmatch(rest) is not None

    def answered(self, topic: str) -> str:
        """Return the request's digest that an answer's topic names."""
        return topic.rpartition("/")[2]


def digest_of(body: bytes) -> str:
    """Return what tells a request from others under the same key: 128 bits."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def check_device(name: str) -> str:
    """Return a device's name. Raises UsageError where it is none."""
    if not _DEVICE.fullmatch(name):
        raise UsageError(
            "this is no name of a device", field="device", found=name[:200], allowed="1 to 64 of A-Z a-z 0-9 _ . -", fix="name it"
        )
    return name


def machine() -> str:
    """Return this machine's name as a device may have it; a pod's is the pod's own."""
    return _NO_DEVICE.sub("-", socket.gethostname())[:64]
