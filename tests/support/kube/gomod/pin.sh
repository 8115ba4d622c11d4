#!/usr/bin/env bash
# Pins the versions of the real servers that the tests start, and of Helm: rewrites go.mod and go.sum beside this file.
# Run it to change a version or to add a program; the tests themselves only ever build what is committed here.
#
#   ETCD=3.6.12 KUBERNETES=1.34.4 HELM=3.20.2 ./pin.sh
#
# One module each, because minimal version selection over all would give none the dependencies it was released with.
# Helm 3.20 is the last that Go 1.25 builds: a later one would ask more of whoever runs the tests than the servers do.
set -euo pipefail
cd "$(dirname "$0")"
: "${ETCD:?version of etcd, such as 3.6.12}" "${KUBERNETES:?version of Kubernetes, such as 1.34.4}" \
  "${HELM:?version of Helm, such as 3.20.2}"
PROGRAMS=(kube-apiserver)
GO=1.25.0 # the oldest Go that all can be built with
# Kubernetes' own go.mod points at its staging folders; outside its repository the published modules take their place.
STAGING=(api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap code-generator
  component-base component-helpers controller-manager cri-api cri-client csi-translation-lib dynamic-resource-allocation
  endpointslice externaljwt kms kube-aggregator kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics
  mount-utils pod-security-admission sample-apiserver sample-cli-plugin sample-controller)

export GOWORK=off GOFLAGS=
fresh() { # fresh FOLDER: an empty module
  mkdir -p "$1"
  rm -f "$1/go.mod" "$1/go.sum"
  (cd "$1" && go mod init "stillhouse.invalid/tests/$1" && go mod edit -go="$GO")
}

fresh etcd
(cd etcd && go get -tool "go.etcd.io/etcd/server/v3@v$ETCD")

fresh helm
(cd helm && go get -tool "helm.sh/helm/v3/cmd/helm@v$HELM")

fresh kubernetes
cd kubernetes
for module in "${STAGING[@]}"; do
  go mod edit -replace "k8s.io/$module=k8s.io/$module@v0.${KUBERNETES#1.}"
done
go mod edit -require "k8s.io/kubernetes@v$KUBERNETES"
for program in "${PROGRAMS[@]}"; do
  go get -tool "k8s.io/kubernetes/cmd/$program@v$KUBERNETES"
done
