"""KServe's client asks a gateway: GRPC_ADDRESS REST_URL TEXTS. Runs in the environment that `other-clients.sh` makes.

Prints the floating-point outputs over gRPC and over REST, as JSON.
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

grpc_at, rest_at, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def request() -> InferRequest:
    """Return the request for all texts."""
    each = InferInput("TEXT", [len(texts), 1], "BYTES")
    each.set_data_from_numpy(np.array([[text.encode()] for text in texts], object), binary_data=False)
    return InferRequest("m", [each])


async def main() -> None:
    """Ask over both, print."""
    client = InferenceGRPCClient(grpc_at)
    assert await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready("m")
    found = await client.infer(request())
    over_grpc = {each.name: each.as_numpy().tolist() for each in found.outputs if each.datatype == "FP32"}
    await client.close()
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(rest_at) and await client.is_server_ready(rest_at)
    assert await client.is_model_ready(rest_at, "m")
    found = await client.infer(rest_at, request(), model_name="m")
    over_rest = {each.name: each.as_numpy().tolist() for each in found.outputs if each.datatype == "FP32"}
    await client.close()
    print(json.dumps([over_grpc, over_rest]))


asyncio.run(main())
