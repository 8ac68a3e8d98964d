"""A server whose SQLite database survives a power cut: `python -m shoes.servers.durable MODULE ARGUMENTS`.

SQLite's settings for that belong to a connection, and a server that somebody else has written opens its own.
"""

import runpy
import sys

from shoes.durability import make_engines_durable

if __name__ == "__main__":
    make_engines_durable()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
