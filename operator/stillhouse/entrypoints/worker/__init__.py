"""The worker: one stage of a build in a pod, which can be killed at any moment and goes on from the store."""
