"""Whether the addresses that servers want are free."""

import socket
from collections.abc import Sequence

import psutil

from shoes.errors import ConfigurationError, Problem
from shoes.servers.program import Program


def require_free(programs: Sequence[Program]) -> None:
    """All the addresses that programs listen on can be had.

    Raises:
        ConfigurationError: some can't: all of them, with who has them where the system says so, and the setting.
    """
    problems = [
        problem for program in programs if program.address and (problem := _problem(program.title, *program.address))
    ]
    if problems:
        raise ConfigurationError(problems)


def _problem(title: str, host: str, port: int) -> Problem | None:
    reason = why_not(host, port)
    if reason is None:
        return None
    setting = f"SHOES_{title.upper()}_PORT"
    return Problem(setting, f"port {port} on {host} {reason}", f"stop that program, or set {setting} to a free port")


def why_not(host: str, port: int) -> str | None:
    """Why nobody can listen at an address; None: one can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # as servers do it: what a connection of a former server left behind does not count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return _taken(port) if error.errno in _IN_USE else f"can't be used: {error.strerror}"
    return None


_IN_USE = {48, 98}
"""EADDRINUSE on macOS and Linux."""


def _taken(port: int) -> str:
    owner = _owner(port)
    return f"is taken by {owner}" if owner else "is taken"


def _owner(port: int) -> str | None:
    """Who listens on a port, where the system tells: macOS tells of one's own processes only."""
    for process in psutil.process_iter(["pid", "name"]):
        try:
            connections = process.net_connections("tcp")
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port for c in connections):
            return f"{process.info['name']} (process {process.pid})"
    return None
