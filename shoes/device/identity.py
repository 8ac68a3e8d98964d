"""Which machine this is, whatever the network calls it.

macOS takes its host name from the network: `Mac.local` in one, `mac-2.fritz.box` in another, and of two Macs in one
network the later one gets another name. Nothing that is kept may depend on it.
"""

import hashlib
import platform
import re
import socket
import subprocess
from functools import cache
from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")
_IOREG = ("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
_LOCAL_NAME = ("/usr/sbin/scutil", "--get", "LocalHostName")


@cache
def machine_id() -> str:
    """16 hex digits that are this machine's own and do not change; they do not give away the system's own number."""
    number = _platform_number() or socket.gethostname()
    return hashlib.sha256(f"shoes/{number}".encode()).hexdigest()[:16]


def machine_name() -> str:
    """A name for people, and never that of another machine: mac-studio-3fa912."""
    name = _said(_LOCAL_NAME) if platform.system() == "Darwin" else ""
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", (name or socket.gethostname()).partition(".")[0]).strip("-")
    return f"{plain or 'machine'}-{machine_id()[:6]}"


def _platform_number() -> str:
    """What the system knows its hardware or its installation by; empty where it does not say."""
    if platform.system() == "Darwin":
        found = re.search(r'"IOPlatformUUID" = "([^"]+)"', _said(_IOREG))
        return found[1] if found else ""
    try:
        return _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _said(command: tuple[str, ...]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
