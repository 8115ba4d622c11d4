"""Where processes begin: the command `still`, later the operator, the worker and the gateway."""
