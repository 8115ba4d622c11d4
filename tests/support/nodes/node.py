"""One node: container runtime, kubelet, service proxy."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import yaml
from tests.support.kube.process import StartFailed
from tests.support.nodes import groups
from tests.support.nodes.commands import run
from tests.support.nodes.network import within
from tests.support.nodes.place import DNS_ADDRESS, POD_CIDR, SERVICE_CIDR, Place
from tests.support.nodes.running import Processes

__all__ = ["LOG_LINKS", "PAUSE", "forget_logs", "start_firewall", "start_kubelet", "start_runtime", "wait_for_services"]

PAUSE = "localhost/pause:1"
LOG_LINKS = Path("/var/log/containers")
"""Where every kubelet of the machine links to its containers' logs; no setting of it moves that."""
_CNI_FOLDER = "/usr/lib/cni"


def start_runtime(place: Place, node: int, processes: Processes, mounts: Mapping[str, Path]) -> None:
    """Start containerd. `mounts` are folders of this machine that every container finds, read-only: path inside → folder.

    Raises:
        StartFailed: it did not become ready.
    """
    folder = place.node(node)
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(_pod_network(place, node)))
    runtime = ""
    if mounts:
        (folder / "container.json").write_text(json.dumps(_with_mounts(mounts)))
        runtime = f'base_runtime_spec = "{folder}/container.json"'
    # restrict_oom_score_adj: where CAP_SYS_RESOURCE is missing runc cannot lower oom_score_adj, and no sandbox starts.
    # netns_mounts_under_state_dir: pods' network namespaces lie in the cluster's own folder, and whoever removes it finds them.
    (folder / "containerd.toml").write_text(f"""
version = 2
root = "{folder}/containerd-root"
state = "{folder}/containerd-state"
[grpc]
  address = "{place.socket(node)}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_CNI_FOLDER}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    {runtime}
""")
    name = f"containerd{node}"
    processes.start(name, within(place, node, "containerd", "-c", str(folder / "containerd.toml")))
    processes.wait(name, lambda: _missing(place.socket(node)))


def _missing(socket: Path) -> str:
    """Return what a containerd lacks. On a busy machine it listens seconds before it answers, and a kubelet then ends at once."""
    if not socket.is_socket():
        return "it does not listen yet"
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        version = channel.unary_unary("/runtime.v1.RuntimeService/Version")
        try:
            version(b"", timeout=2.0)
        except grpc.RpcError as error:
            return f"it does not answer yet: {error}"
    return ""


def start_kubelet(place: Place, node: int, programs: Mapping[str, Path], processes: Processes, flags: Sequence[str] = ()) -> None:
    """Start the kubelet and the service proxy of a node whose runtime runs."""
    folder = place.node(node)
    groups.make(place.group(node))
    resolver = place.folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")  # names of the cluster only; no other is known here
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.group(node)}",
        "containerRuntimeEndpoint": f"unix://{place.socket(node)}",
        "failSwapOn": False,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(place.folder / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 99,
        "imageGCLowThresholdPercent": 98,
        "localStorageCapacityIsolation": False,
        "maxPods": 200,
        "podLogsDir": str(folder / "pod-logs"),  # a kubelet removes the logs of pods that it does not know: the other node's
        "registerWithTaints": [],
    }
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(config))
    processes.start(f"kubelet{node}", within(place, node, str(programs["kubelet"]),
        f"--config={folder}/kubelet.yaml", f"--kubeconfig={place.folder}/node{node}.kubeconfig",
        f"--hostname-override=node{node}", f"--root-dir={folder}/kubelet", f"--node-ip={place.address(node)}", *flags,
    ))  # fmt: skip
    _start_proxy(place, node, programs, processes)


def _start_proxy(place: Place, node: int, programs: Mapping[str, Path], processes: Processes) -> None:
    processes.start(f"proxy{node}", within(place, node, str(programs["kube-proxy"]),
        f"--kubeconfig={place.folder}/proxy.kubeconfig", f"--hostname-override=node{node}", "--proxy-mode=iptables",
        f"--cluster-cidr={POD_CIDR}", "--iptables-sync-period=5s",
        # Limits of the whole machine, which cannot be written from a namespace.
        "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
    ))  # fmt: skip


def start_firewall(place: Place, node: int, programs: Mapping[str, Path], processes: Processes) -> None:
    """Start what enforces NetworkPolicies on a node that is known to the API server already."""
    # Of kube-router the firewall alone: it enforces NetworkPolicies, which the pods' bridge does not.
    processes.start(f"router{node}", within(place, node, str(programs["kube-router"]),
        f"--kubeconfig={place.folder}/router.kubeconfig", f"--hostname-override=node{node}", "--run-firewall=true",
        "--run-router=false", "--run-service-proxy=false", "--run-loadbalancer=false", "--health-port=0", "--metrics-port=0",
        f"--service-cluster-ip-range={SERVICE_CIDR}", "--iptables-sync-period=30s",
    ))  # fmt: skip


def forget_logs(place: Place) -> None:
    """Remove the links to logs that lie in the cluster's folder."""
    for link in LOG_LINKS.glob("*"):
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(f"{place.folder}/"):
                link.unlink()


def wait_for_services(place: Place, node: int, programs: Mapping[str, Path], processes: Processes) -> None:
    """Wait until Services can be reached from a node.

    A kubelet that starts beside the proxy writes into the same tables. Where the proxy's first attempt meets that it says so, and
    has been seen to make no second one: then it is started again.

    Raises:
        StartFailed: the service proxy ended, or wrote no rule in time.
    """
    name = f"proxy{node}"

    def missing() -> str:
        return "" if "KUBE-SVC-" in run(*within(place, node, "iptables-save", "-t", "nat")) else "no rule yet"

    for _ in range(2):
        try:
            processes.wait(name, missing, timeout_s=40.0)
        except StartFailed:
            if "Sync failed" not in processes.log(name).read_text(errors="replace"):
                break
            processes.stop(name)
            _start_proxy(place, node, programs, processes)
        else:
            return
    processes.wait(name, missing)


def _pod_network(place: Place, node: int) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(place.node(node) / "addresses"),
        "ranges": [[{"subnet": place.pods(node)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    # Without masquerading: another node would see a pod by its node's address, and no policy that names pods would match it.
    bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}


def _with_mounts(mounts: Mapping[str, Path]) -> dict[str, object]:
    """Return the runtime's own default of a container, with these folders in it."""
    program = shutil.which("ctr") or "ctr"
    spec: dict[str, object] = json.loads(run(program, "oci", "spec"))
    added = [
        {"destination": inside, "type": "bind", "source": str(folder), "options": ["rbind", "ro"]}
        for inside, folder in mounts.items()
    ]
    known = spec["mounts"]
    spec["mounts"] = [*(known if isinstance(known, list) else []), *added]
    return spec
