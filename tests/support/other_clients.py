"""`scripts/other-clients.sh`: a gateway is asked by KServe's client and by grpcurl; all get what the model says here."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tests.support.gateway_process import gateway
from tests.support.kube.process import free_port
from tests.support.tiny_model import write_tiny_model

from stillhouse.inference.engine import Engine

TEXTS = ["read a file", "return the path of the list"]
KSERVE = Path(__file__).parents[2] / "scripts" / "kserve_client.py"


def run(command: Sequence[str]) -> str:
    """Return what a program prints; say what it says where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def main(kserve: str, grpcurl: str) -> int:
    """Start a gateway, ask it, compare."""
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "model"
        write_tiny_model(model, task="text-classification")
        edge = {"kind": "engine", "folder": str(model), "digest": "sha256:" + "1" * 64}
        rest = f"127.0.0.1:{free_port()}"
        config = Path(name) / "gateway.json"
        listen = {"grpc": f"127.0.0.1:{free_port()}", "rest": rest}
        config.write_text(json.dumps({"version": 1, "name": "m", "listen": listen, "edge": edge}))
        wanted = Engine(model, 1).predict(TEXTS)
        with gateway(f"--config={config}") as running:
            answers = json.loads(run([kserve, str(KSERVE), running.address, f"http://{rest}", json.dumps(TEXTS)]))
            for way, found in zip(("gRPC", "REST"), answers, strict=True):
                np.testing.assert_allclose(np.array(found["PROBABILITIES"]), wanted, atol=1e-5)
                print(f"KServe's client over {way}: {len(TEXTS)} answers, equal")
            services = run([grpcurl, "-plaintext", running.address, "list"]).split()
            print(f"grpcurl list: {', '.join(services)}")
            contents = {"bytes_contents": [base64.b64encode(text.encode()).decode() for text in TEXTS]}
            inputs = [{"name": "TEXT", "datatype": "BYTES", "shape": [len(TEXTS), 1], "contents": contents}]
            asked = [*("-d", json.dumps({"model_name": "m", "inputs": inputs})), running.address]
            found = json.loads(run([grpcurl, "-plaintext", *asked, "inference.GRPCInferenceService/ModelInfer"]))
            at = [each["name"] for each in found["outputs"]].index("PROBABILITIES")
            raw = base64.b64decode(found["rawOutputContents"][at])
            np.testing.assert_allclose(np.frombuffer(raw, np.float32).reshape(wanted.shape), wanted, atol=1e-5)
            print(f"grpcurl ModelInfer: {len(TEXTS)} answers, equal")
            health = json.loads(run([grpcurl, "-plaintext", running.address, "grpc.health.v1.Health/Check"]))
            assert health["status"] == "SERVING", health
            print("grpcurl Health/Check: SERVING")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
