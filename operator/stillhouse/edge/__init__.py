"""The gateway: preprocessing, cascade, limits, at the edge and in a cluster."""
