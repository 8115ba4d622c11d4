"""The sections of the gateway's configuration file, checked; `edge.config` is the file."""
