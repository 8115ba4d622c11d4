"""The control plane of a cluster with nodes: certificates, etcd, API server, controllers, scheduler, names."""

from __future__ import annotations

import json
import ssl
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from tests.support.nodes.commands import run
from tests.support.nodes.network import within
from tests.support.nodes.place import API_PORT, DNS_ADDRESS, SERVICE_CIDR, Place
from tests.support.nodes.running import Processes

__all__ = ["ADMIN_TOKEN", "start", "start_names"]

ADMIN_TOKEN = "admin"
_RELAY = Path(__file__).with_name("relay.py")
_AUDIT = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:nodes"]}
- {level: None, users: ["system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"]}
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
- {level: None}
"""
_COREFILE = """
.:53 {{
  kubernetes cluster.local {{
    kubeconfig {kubeconfig} c
    pods insecure
  }}
  cache 5
}}
"""


def start(place: Place, programs: Mapping[str, Path], processes: Processes, port: int, flags: Sequence[str] = ()) -> None:
    """Start etcd, the API server (also reachable at 127.0.0.1:`port` from outside), the controllers and the scheduler.

    Raises:
        StartFailed: one of them did not become ready.
    """
    folder = place.folder
    _certificates(place)
    _tokens(place)
    (folder / "audit.yaml").write_text(_AUDIT)
    _kubeconfig(place.kubeconfig, f"https://127.0.0.1:{port}", folder / "ca.crt", ADMIN_TOKEN)
    _start_in(place, processes, "etcd", programs["etcd"], [
        f"--data-dir={folder}/etcd", "--unsafe-no-fsync", "--log-level=warn",
        "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
    ])  # fmt: skip
    _start_in(place, processes, "apiserver", programs["kube-apiserver"], [
        "--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", f"--advertise-address={place.address(1)}",
        f"--secure-port={API_PORT}", f"--service-cluster-ip-range={SERVICE_CIDR}", "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={folder}/sa.pub",
        f"--service-account-signing-key-file={folder}/sa.key", "--authorization-mode=Node,RBAC",
        f"--token-auth-file={folder}/tokens.csv", f"--tls-cert-file={folder}/apiserver.crt",
        f"--tls-private-key-file={folder}/apiserver.key", f"--client-ca-file={folder}/ca.crt",
        f"--kubelet-client-certificate={folder}/kubelet-client.crt", f"--kubelet-client-key={folder}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP", "--enable-aggregator-routing=true",
        f"--requestheader-client-ca-file={folder}/ca.crt", "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-", f"--proxy-client-cert-file={folder}/front.crt",
        f"--proxy-client-key-file={folder}/front.key", f"--audit-policy-file={folder}/audit.yaml",
        f"--audit-log-path={folder}/audit.log", "--profiling=false", *flags,
    ])  # fmt: skip
    words: list[str | Path] = [sys.executable, "-I", "-S", _RELAY, str(port), place.net(1), place.address(1), str(API_PORT)]
    processes.start("relay", words)
    processes.wait("apiserver", lambda: _ready(port))
    for name in ("controllers", "scheduler", "proxy", "router", "names", *(f"node{node}" for node in range(1, place.nodes + 1))):
        _kubeconfig(folder / f"{name}.kubeconfig", place.api, folder / "ca.crt", name)
    access = f"{folder}/controllers.kubeconfig"
    _start_in(place, processes, "controllers", programs["kube-controller-manager"], [
        f"--kubeconfig={access}", f"--authentication-kubeconfig={access}", f"--authorization-kubeconfig={access}",
        f"--service-account-private-key-file={folder}/sa.key", f"--root-ca-file={folder}/ca.crt",
        "--use-service-account-credentials", "--allocate-node-cidrs=false", "--leader-elect=false",
        "--horizontal-pod-autoscaler-sync-period=5s", "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
        "--node-monitor-grace-period=20s",
    ])  # fmt: skip
    access = f"{folder}/scheduler.kubeconfig"
    _start_in(place, processes, "scheduler", programs["kube-scheduler"], [
        f"--kubeconfig={access}", f"--authentication-kubeconfig={access}", f"--authorization-kubeconfig={access}",
        "--leader-elect=false",
    ])  # fmt: skip


def start_names(place: Place, programs: Mapping[str, Path], processes: Processes) -> list[dict[str, object]]:
    """Start CoreDNS as a process of node 1; return the Service and its endpoints, which are to be created."""
    (place.folder / "Corefile").write_text(_COREFILE.format(kubeconfig=place.folder / "names.kubeconfig"))
    _start_in(place, processes, "names", programs["coredns"], ["-conf", str(place.folder / "Corefile")])
    ports = [
        {"name": name, "port": 53, "targetPort": 53, "protocol": kind} for name, kind in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    meta = {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"clusterIP": DNS_ADDRESS, "ports": ports}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "name": "kube-dns-node", "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "ports": [{"name": each["name"], "port": 53, "protocol": each["protocol"]} for each in ports],
            "endpoints": [{"addresses": [place.address(1)], "conditions": {"ready": True}}],
        },
    ]


def _start_in(place: Place, processes: Processes, name: str, program: Path, arguments: list[str]) -> None:
    processes.start(name, within(place, 1, str(program), *arguments))


def _ready(port: int) -> str:
    context = ssl._create_unverified_context()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"https://127.0.0.1:{port}/readyz", timeout=5):
            return ""
    except OSError as error:
        return str(error)


def _certificates(place: Place) -> None:
    folder = place.folder
    run("openssl", "genrsa", "-out", folder / "sa.key", "2048")
    run("openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub")
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "ca.key", "-out", folder / "ca.crt",
        "-subj", "/CN=stillhouse-test", "-days", "30")  # fmt: skip
    names = "DNS:localhost,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1"
    _certificate(folder, "apiserver", "/CN=kube-apiserver", f"{names},IP:{place.address(1)}")
    _certificate(folder, "front", "/CN=front-proxy")
    _certificate(folder, "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")


def _certificate(folder: Path, name: str, subject: str, names: str = "DNS:localhost") -> None:
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\n")
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / f"{name}.key", "-out", request, "-subj", subject)
    run("openssl", "x509", "-req", "-in", request, "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial",
        "-days", "30", "-out", folder / f"{name}.crt", "-extfile", extensions)  # fmt: skip


def _tokens(place: Place) -> None:
    rows = [f'{ADMIN_TOKEN},admin,admin,"system:masters"', "controllers,system:kube-controller-manager,controllers"]
    rows += ["scheduler,system:kube-scheduler,scheduler", "proxy,system:kube-proxy,proxy", 'names,names,names,"system:masters"']
    rows += ['router,router,router,"system:masters"']
    rows += [f'node{node},system:node:node{node},node{node},"system:nodes"' for node in range(1, place.nodes + 1)]
    (place.folder / "tokens.csv").write_text("\n".join(rows) + "\n")


def _kubeconfig(file: Path, server: str, authority: Path, token: str) -> None:
    context = {"cluster": "c", "user": "u", "namespace": "default"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": context}, {"name": "stillhouse", "context": context}],
        "current-context": "stillhouse",
    }
    file.write_text(yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False))
    file.chmod(0o600)
