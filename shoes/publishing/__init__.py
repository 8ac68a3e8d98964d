"""The adapter in the forms in which people use it, and as a registered model."""
