"""Where a cluster lies on the machine, and what its nodes are called: pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["API_PORT", "DNS_ADDRESS", "POD_CIDR", "SERVICE_CIDR", "Place"]

SERVICE_CIDR = "10.96.0.0/16"
POD_CIDR = "10.88.0.0/16"
API_PORT = 6443
DNS_ADDRESS = "10.96.0.10"


@dataclass(frozen=True, slots=True)
class Place:
    """`folder` holds everything that a cluster keeps, `nodes` is their number, counted from 1.

    The network namespaces, cables and control groups are named after the folder, so that several clusters stand side by side;
    their addresses are the same, since none sees another.
    """

    folder: Path
    nodes: int

    @property
    def name(self) -> str:
        """Name of the cluster: the end of its folder's, as namespaces and control groups bear it."""
        return "sh-" + "".join(letter for letter in self.folder.name if letter.isalnum())[-8:]

    @property
    def api(self) -> str:
        """URL of the API server inside the namespaces."""
        return f"https://{self.address(1)}:{API_PORT}"

    def namespace(self, node: int) -> str:
        """Name of a node's network namespace."""
        return f"{self.name}-{node}"

    def net(self, node: int) -> Path:
        """File that names a node's network namespace."""
        return Path("/run/netns") / self.namespace(node)

    def address(self, node: int) -> str:
        """Address of a node: TEST-NET-1, which nobody has. A node's address may not be loopback."""
        return f"192.0.2.{10 + node}"

    def pods(self, node: int) -> str:
        """Addresses of a node's pods."""
        return f"10.88.{node}.0/24"

    def node(self, node: int) -> Path:
        """Folder of a node."""
        return self.folder / f"node{node}"

    def socket(self, node: int) -> Path:
        """Where a node's container runtime listens."""
        return self.node(node) / "containerd.sock"

    def group(self, node: int) -> str:
        """Name of a node's control group, below the root of each hierarchy."""
        return f"{self.name}-node{node}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's access, from outside the namespaces."""
        return self.folder / "kubeconfig"
