#!/usr/bin/env bash
# Debian packages that real nodes need (tests/cluster, make cluster): installed with root; without, the tier says what is missing.
set -euo pipefail
packages=(containerd runc containernetworking-plugins iptables iproute2 conntrack buildah debootstrap openssl gcc libc6-dev util-linux
  mount procps ipset)
[ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || exit 0
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0
echo "installing Debian packages for real nodes: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# containerd's own service stays off: the tests start one for each node.
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
