"""gRPC over HTTP/2, server and client, on an asyncio loop: messages are bytes, protobuf is the affair of whoever reads them.

docs/design/20261126-gateway.md says why it is not grpc.aio.
"""
