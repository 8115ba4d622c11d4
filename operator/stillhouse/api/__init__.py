"""The resources as pydantic models: what a user may write, what the status says. The CRDs are generated from them."""
