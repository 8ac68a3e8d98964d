"""What happened, kept: the journal in the run's folder first, then MLflow, which is a replay of it."""
