"""Super-resolution: `loader.load` a network by name, get a `resolver.SuperResolver` that enlarges
frames.

`tiles` plans tiles, `nets` turns weights into modules, `resolver` runs them, `loader` keeps them
warm. Nothing is imported here, so that `tiles` needs no torch.
"""
