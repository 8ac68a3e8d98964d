"""The night as a page: one HTML file that needs nothing beside it."""

from shoes.publishing.page.builder import PAGE, current, mark, render, write
from shoes.publishing.page.evidence import Evidence, gather

__all__ = ["PAGE", "Evidence", "current", "gather", "mark", "render", "write"]
