"""A RunPod-style serverless GPU video worker, and the same platform on loopback."""

__version__ = "0.1.0"
