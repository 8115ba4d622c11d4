"""From a configuration to the parts of a gateway: legs, cascade, queue, watch. What each is for stands with it."""
