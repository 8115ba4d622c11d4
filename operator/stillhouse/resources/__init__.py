"""Pure builders: what is wanted → one Kubernetes object as plain JSON data. No client, no clock, no randomness."""
