"""Faults that a test injects into the endpoint and the store."""
