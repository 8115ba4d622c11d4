"""From a resource to its children: observe, decide, apply what differs, say what is."""
