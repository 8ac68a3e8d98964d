"""Importing this module is entering the tests' world: see `tests/world.py`."""

import os

from tests import world

if "PYTEST_CURRENT_TEST" not in os.environ:  # what a test has started is there already
    world.enter()
