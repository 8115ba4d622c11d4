"""A real Kubernetes control plane for tests: etcd and kube-apiserver, built from Go modules, on loopback, without root."""
