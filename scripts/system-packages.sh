#!/usr/bin/env bash
# Debian packages that the project needs: installed with root, named without.
set -euo pipefail
python=${PYTHON:-python3.11}

can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }
install() {
  echo "installing Debian packages: $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

if ! command -v "$python" >/dev/null && [ "$python" = python3.11 ] && can_install; then
  install python3.11 || true
fi
if ! command -v "$python" >/dev/null; then
  echo "error: $python was not found" >&2
  echo "  fix: install Python 3.11 (Debian 12: apt-get install python3.11 python3.11-venv libpython3.11), or make PYTHON=/path/to/python3.11" >&2
  exit 2
fi

missing=()
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3.11-venv)
# Triton's Python backend links libpython, which Debian ships apart from the interpreter.
"$python" - <<'PY' || missing+=(libpython3.11)
import ctypes.util, pathlib, sys, sysconfig
folders = [sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("LIBPL") or ""]
names = ["libpython3.11.so.1.0", "libpython3.11.so"]
found = any((pathlib.Path(folder) / name).exists() for folder in folders for name in names)
multiarch = sysconfig.get_config_var("MULTIARCH") or ""
found = found or any((pathlib.Path("/usr/lib") / multiarch / name).exists() for name in names)
sys.exit(0 if found else 1)
PY

[ "${#missing[@]}" -eq 0 ] && exit 0
if can_install; then
  install "${missing[@]}"
else
  echo "error: Debian packages are missing: ${missing[*]}" >&2
  echo "  fix: sudo apt-get install ${missing[*]}" >&2
  exit 2
fi
