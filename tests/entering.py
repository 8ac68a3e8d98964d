"""Importing this module is entering the tests' world: see `tests/world.py`."""

from tests import world

world.enter()
