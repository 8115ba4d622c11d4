"""Where a command works. What users are told to run names the same namespace and context, so that it can be pasted."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace

__all__ = ["Place", "claim_command"]


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace of the cluster that a kubeconfig's context names; an empty context is the current one."""

    namespace: str = "default"
    context: str = ""

    def inside(self, namespace: str) -> Place:
        """Return another namespace of the same cluster; empty: what belongs to none."""
        return replace(self, namespace=namespace)

    def kubectl(self, words: str) -> str:
        """Return a command of kubectl."""
        return f"kubectl {words}{self._namespace()}{f' --context {shlex.quote(self.context)}' if self.context else ''}"

    def helm(self, words: str) -> str:
        """Return a command of helm."""
        return f"helm {words}{self._namespace()}{f' --kube-context {shlex.quote(self.context)}' if self.context else ''}"

    def still(self, words: str) -> str:
        """Return a command of ours; without --context it would speak of this machine."""
        return f"still {words}{self._namespace()} --context {shlex.quote(self.context)}"

    def _namespace(self) -> str:
        return f" -n {shlex.quote(self.namespace)}" if self.namespace else ""


def claim_command(place: Place, name: str, mode: str = "ReadWriteMany") -> str:
    """Return the command that makes a claim; its size is for the user to change."""
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "20Gi"}}}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
    return f"echo {shlex.quote(json.dumps(body, separators=(',', ':')))} | {place.kubectl('create -f -')}"
