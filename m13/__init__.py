"""M13, a post-quantum layer-3 tunnel: what the hub and the node share."""

__version__ = "0.1.0"
