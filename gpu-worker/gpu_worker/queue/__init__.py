"""The worker that pulls its jobs from a bucket: `gpu-worker pull`."""
