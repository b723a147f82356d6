"""RunPod's API on loopback: the queue, its public face, its worker face, and the workers."""
