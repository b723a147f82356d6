"""`gpu-worker demo`: every task once, through the client SDK, the local platform and the production
worker loop."""
