"""Requests of the protocol over MQTT 5: the sender of a device, and the bridge beside the larger model (docs/mqtt.md)."""
