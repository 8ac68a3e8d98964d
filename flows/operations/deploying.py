"""Prefect's command line, in a process that has loaded what deploying needs before there is a server to speak with.

Its words are those of the command, such as `--no-prompt deploy --all`; a line of standard input says that it is time.
"""

import sys

import prefect.cli.deploy  # noqa: F401
from prefect.cli import app

import flows.overnight  # noqa: F401

if __name__ == "__main__" and sys.stdin.readline():
    app()
