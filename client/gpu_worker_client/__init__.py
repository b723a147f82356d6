"""Thin client SDK for the GPU video worker."""
