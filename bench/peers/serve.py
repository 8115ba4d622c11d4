"""Run one of the FastAPI peers with uvicorn.

`python -m bench.peers.serve fastapi_onnx --port 8000 --threads 1 --workers 2`
"""

from __future__ import annotations

import argparse
import os

APPLICATIONS = ("fastapi_transformers", "fastapi_onnx")
# Worker processes import the application afresh, so their settings travel in the environment.
THREADS_VARIABLE = "PEER_THREADS"
MAX_LENGTH_VARIABLE = "PEER_MAX_LENGTH"


def main() -> None:
    """Parse the command line and serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("application", choices=APPLICATIONS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0, help="of the model in each worker (0: the library's default)")
    parser.add_argument("--workers", type=int, default=1, help="server processes")
    parser.add_argument("--max-length", type=int, default=0, help="tokens (0: the model's own limit)")
    arguments = parser.parse_args()
    os.environ[THREADS_VARIABLE] = str(arguments.threads)
    os.environ[MAX_LENGTH_VARIABLE] = str(arguments.max_length)

    import uvicorn

    uvicorn.run(
        f"bench.peers.{arguments.application}:app",
        host="127.0.0.1",
        port=arguments.port,
        workers=arguments.workers,
        # To the peer's advantage: asyncio accepts a whole backlog at one wake-up, so that with uvicorn's 2048 one worker
        # takes nearly all of the clients' connections and the others idle.
        backlog=2048 if arguments.workers == 1 else 2,
        access_log=False,  # to the peer's advantage: a line per request costs it CPU
        log_level="warning",
    )


if __name__ == "__main__":
    main()
