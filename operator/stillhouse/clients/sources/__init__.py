"""The seam to where models and data lie: a URI becomes a digest and a local path."""

from stillhouse.clients.sources.digest import DigestCache, digest_of
from stillhouse.clients.sources.resolve import Resolved, absolute, resolve

__all__ = ["DigestCache", "Resolved", "absolute", "digest_of", "resolve"]
