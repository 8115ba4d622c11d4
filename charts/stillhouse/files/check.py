"""What `helm test` runs in a pod: the API server knows our kinds, and an operator is ready. Standard library only."""
# ruff: noqa: D103, S310, T201

import json
import os
import ssl
import sys
import time
import urllib.request
from pathlib import Path

API = os.environ.get("API_URL", "https://kubernetes.default.svc")
READY = os.environ["READY_URL"]
ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
PATIENCE_S = float(os.environ.get("PATIENCE_S", "60"))
KINDS = {"distilledmodels", "modelrevisions"}


def ask(url: str, *, account: bool = False) -> str:
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}"} if account else {}
    context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt") if account else None
    handlers = [urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])]
    with urllib.request.build_opener(*handlers).open(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        return answer.read().decode()


def kinds() -> str:
    found = {each["name"] for each in json.loads(ask(f"{API}/apis/stillhouse.io/v1alpha1", account=True))["resources"]}
    return f"the API server lacks {', '.join(sorted(KINDS - found))}" if KINDS - found else ""


def ready() -> str:
    ask(READY)
    return ""


def main() -> int:
    for name, check in (("CRDs", kinds), ("operator", ready)):
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                wrong = check()
            except (OSError, ValueError, KeyError) as error:
                wrong = f"{type(error).__name__}: {error}"
            if not wrong:
                print(f"{name}: ok", flush=True)
                break
            if time.monotonic() > end:
                print(f"{name}: {wrong}", flush=True)
                return 1
            time.sleep(1)
    return 0


sys.exit(main())
