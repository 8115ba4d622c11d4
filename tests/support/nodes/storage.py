"""Volumes of a cluster on one machine: folders that every node sees, offered beforehand, since nothing makes them on demand."""

from __future__ import annotations

from typing import Any

from tests.support.nodes.place import Place

__all__ = ["CLASS", "objects"]

CLASS = "shared"
_COUNT = 24


def objects(place: Place) -> list[dict[str, Any]]:
    """Return the default StorageClass and its volumes, each a folder that exists and that any user may write to."""
    made: list[dict[str, Any]] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "Immediate",
        }
    ]
    for number in range(_COUNT):
        folder = place.folder / "volumes" / f"shared-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # the kubelet gives a hostPath to no group
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": folder.name},
                "spec": {
                    "capacity": {"storage": "20Gi"},
                    "accessModes": ["ReadWriteMany", "ReadOnlyMany", "ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": CLASS,
                    "hostPath": {"path": str(folder), "type": "Directory"},
                },
            }
        )
    return made
