"""A real Kubernetes of one or more nodes for tests, and for whoever wants to play: `make cluster`.

etcd, kube-apiserver, kube-controller-manager, kube-scheduler and CoreDNS in the network namespace of node 1; containerd, kubelet
and kube-proxy in that of every node. No namespace has an uplink: nothing leaves,
and names outside the cluster are not known.
"""
