"""The audit log: records in a chain of hashes, in files that are rotated, verifiable by `still audit verify`."""
