#!/usr/bin/env bash
# The integration tier on another Kubernetes than the one that is pinned:
#   scripts/other-kubernetes.sh 1.32.12 [pytest's options]
# Builds that version's kube-apiserver and kube-controller-manager from Go modules (some minutes, once), beside the pinned etcd.
set -euo pipefail
cd "$(dirname "$0")/.."
version="${1:?a version of Kubernetes, such as 1.32.12}"
shift
python="$PWD/.venv/bin/python"
assets="${XDG_CACHE_HOME:-$HOME/.cache}/stillhouse/kubernetes-$version"
programs=(kube-apiserver kube-controller-manager)
mkdir -p "$assets"
for program in "${programs[@]}"; do
  [ -x "$assets/$program" ] && continue
  echo "building $program $version from Go modules: about 4 min on 2 cores, once"
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  (
    export GOWORK=off GOFLAGS= CGO_ENABLED=0
    cp tests/support/kube/gomod/kubernetes/go.mod "$work/"
    cd "$work"
    # The staging modules of the pinned version, all of this one; `go get` then finds what else this one was released with.
    replaced="$(sed -n 's/^replace \(k8s.io\/[a-z-]*\) =>.*/\1/p' go.mod)"
    rm go.mod
    go mod init stillhouse.invalid/tests/kubernetes 2>/dev/null
    for module in $replaced; do go mod edit -replace "$module=$module@v0.${version#1.}"; done
    go get -tool "k8s.io/kubernetes/cmd/$program@v$version" 2>/dev/null
    go build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version" -o "$assets/$program.new" "k8s.io/kubernetes/cmd/$program"
  )
  mv "$assets/$program.new" "$assets/$program"
  rm -rf "$work"
done
etcd="$("$python" -m tests.support.kube.binaries etcd | cut -d' ' -f2)"
ln -sf "$etcd" "$assets/etcd"
"$assets/kube-apiserver" --version
# What the harness itself builds is tested with the pinned version.
KUBEBUILDER_ASSETS="$assets" exec "$python" -m pytest -p no:cacheprovider -q -m "not slow" tests/integration \
  --ignore tests/integration/test_harness_binaries.py --ignore tests/integration/test_harness_processes.py "$@"
