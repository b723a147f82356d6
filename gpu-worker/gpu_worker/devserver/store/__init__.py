"""The R2-like object store: objects on disk, signatures checked, R2's rules and errors."""
