"""The base model: its files (`files`) and its parts in memory (`load`)."""
