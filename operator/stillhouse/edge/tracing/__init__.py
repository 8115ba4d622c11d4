"""Traces: W3C Trace Context passed on, and OpenTelemetry's spans of calls where there is a collector."""
