"""What the name of a model is: an id on the Hub, or a place on this machine. Told from the name alone."""

import re
from pathlib import Path, PurePath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Endings of weight files that run code when they are loaded."""
WEIGHTS = (".safetensors", ".sft", ".gguf", *PICKLES)
"""Endings of files that hold weights; no repository of the Hub is named so."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|www\.|(huggingface\.co|hf\.co|civitai\.com)/", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def is_address(name: str) -> bool:
    """The name is a URL, or the beginning of one."""
    return _ADDRESS.match(name) is not None


def names_weights(name: str) -> bool:
    """The name ends as a file of weights does."""
    return name.lower().endswith(WEIGHTS)


def is_path(name: str) -> bool:
    """The name can only be a place on this machine; all others may be ids on the Hub."""
    is_place = name.startswith(("data/", "/", ".", "~")) or "\\" in name or _DRIVE.match(name) is not None
    return is_place or names_weights(name) or name.count("/") != 1


def below_home(name: str) -> str:
    """The name without who is at home here: `~/models/x` for a place below the home folder."""
    home, path = Path.home(), PurePath(name)
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) and path != home else name


def without_secrets(address: str) -> str:
    """An address without what is often secret in it: user, password and query."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _check(name: str) -> str:
    if not name.strip():
        raise ValueError("is empty: name a model on the Hub such as owner/name, or give a path")
    if not is_address(name):
        return name
    hub = re.search(r"(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)", name)
    way_out = f"name the repository itself, {hub[1]}, or " if hub else ""
    raise ValueError(
        f"is an address, and nothing is downloaded from those: {way_out}download the file (.safetensors) with a "
        f"browser and give its path"
    )


ModelName = Annotated[str, AfterValidator(_check)]
"""The name of a model: an id on the Hub or a path, never an address."""
