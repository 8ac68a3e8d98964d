"""What the benchmarks of speed share: the models, the photos, and the loops that are compared."""
