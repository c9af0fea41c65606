"""`m13 bench`: what this machine can do for a tunnel, piece by piece, and what limits it."""
