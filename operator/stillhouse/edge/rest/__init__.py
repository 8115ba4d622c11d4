"""The Open Inference Protocol's REST twin: JSON and binary tensors to the same messages, handlers and backends, and back."""
