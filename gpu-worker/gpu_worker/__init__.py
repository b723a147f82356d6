"""A RunPod-style serverless GPU video worker, and the same platform on loopback."""
