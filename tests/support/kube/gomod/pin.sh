#!/usr/bin/env bash
# Pins the versions of the real servers that the tests start, and of Helm: rewrites go.mod and go.sum beside this file.
# Run it to change a version or to add a program; the tests themselves only ever build what is committed here.
#
#   ETCD=3.6.12 KUBERNETES=1.34.4 HELM=3.20.2 COREDNS=1.13.1 VERSITYGW=1.8.0 REGISTRY=3.1.1 KUBE_ROUTER=2.1.0 \
#     ./pin.sh
#
# One module each, because minimal version selection over all would give none the dependencies it was released with.
# Helm 3.20 and the registry 3.1.1 are the last that Go 1.25 builds: later ones would ask more of whoever runs the tests than the
# servers do.
set -euo pipefail
cd "$(dirname "$0")"
: "${ETCD:?version of etcd, such as 3.6.12}" "${KUBERNETES:?version of Kubernetes, such as 1.34.4}" \
  "${HELM:?version of Helm, such as 3.20.2}" "${COREDNS:?version of CoreDNS, such as 1.13.1}" \
  "${VERSITYGW:?version of the S3 gateway, such as 1.8.0}" "${REGISTRY:?version of the OCI registry, such as 3.1.1}" \
  "${KUBE_ROUTER:?version of kube-router, such as 2.1.0}"
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

fresh coredns
(cd coredns && go get -tool "github.com/coredns/coredns@v$COREDNS")

fresh versitygw
(cd versitygw && go get -tool "github.com/versity/versitygw/cmd/versitygw@v$VERSITYGW")

fresh registry
(cd registry && go get -tool "github.com/distribution/distribution/v3/cmd/registry@v$REGISTRY")

fresh kube-router
(cd kube-router && go get -tool "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v$KUBE_ROUTER")

of_kubernetes() { # of_kubernetes FOLDER PROGRAM...: a module of Kubernetes' own programs
  fresh "$1"
  (
    cd "$1"
    for module in "${STAGING[@]}"; do
      go mod edit -replace "k8s.io/$module=k8s.io/$module@v0.${KUBERNETES#1.}"
    done
    go mod edit -require "k8s.io/kubernetes@v$KUBERNETES"
    for program in "${@:2}"; do
      go get -tool "k8s.io/kubernetes/cmd/$program@v$KUBERNETES"
    done
  )
}
of_kubernetes kubernetes kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy
of_kubernetes kubectl kubectl # by itself: what only people use does not decide what the servers are built from
