"""Detectors: what is where in one frame. `yunet` finds faces with their landmarks."""
