"""The images of our pods, from the registry that the administrator names."""

from __future__ import annotations

from stillhouse.planning.runtimes import GPU
from stillhouse.resources.wanted import ClusterSettings

__all__ = ["gateway_image", "relocated", "serve_image", "worker_image"]


def serve_image(settings: ClusterSettings, runtime: str) -> str:
    """Return the image of serving pods of a runtime."""
    return relocated(settings.serve_gpu_image if runtime == GPU else settings.serve_image, settings.image_registry)


def worker_image(settings: ClusterSettings) -> str:
    """Return the image of a build's Jobs."""
    return relocated(settings.worker_image, settings.image_registry)


def gateway_image(settings: ClusterSettings) -> str:
    """Return the image of gateways."""
    return relocated(settings.gateway_image, settings.image_registry)


def relocated(image: str, registry: str) -> str:
    """Return an image's reference with another registry (`HOST[:PORT][/PATH]`); an empty one changes nothing.

    As container runtimes read a reference: its first part is a host where it has a dot or a colon or is `localhost`; else there
    is none, and the registry is put in front.
    """
    if not registry:
        return image
    first, slash, rest = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return f"{registry.rstrip('/')}/{rest if is_host else image}"
