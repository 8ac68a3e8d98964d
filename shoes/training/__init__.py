"""Training an adapter: `loop.train` reads top-down; everything it uses is beside it."""
