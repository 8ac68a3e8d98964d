"""Prefect's side of running this for months."""
