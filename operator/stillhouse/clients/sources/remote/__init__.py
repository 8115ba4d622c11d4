"""Sources behind a network: `https://`, `s3://`, `oci://`. What may be reached, with whose rights, and how files come."""
