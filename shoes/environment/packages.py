"""Installed packages: their versions, what is missing, and the command that installs it."""

import importlib.metadata
import importlib.util
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from shoes.settings import PROJECT_ROOT

_INDEX_NAMES = {"PIL": "pillow", "yaml": "pyyaml"}
"""Packages that are imported by another name than they are installed by."""


def version(package: str) -> str:
    """Version of an installed package."""
    return importlib.metadata.version(package)


def versions(*packages: str) -> str:
    """Packages with their versions, for people."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def is_installed(module: str) -> bool:
    """The module can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None


def is_loaded(module: str) -> bool:
    """This process has imported the module, and to its end."""
    found = sys.modules.get(module)
    return found is not None and not getattr(getattr(found, "__spec__", None), "_initializing", False)


def index_name(module: str) -> str:
    """Name on the package index of what `import module` wants."""
    top = module.partition(".")[0]
    return _INDEX_NAMES.get(top, top)


def install_command(packages: Iterable[str], root: Path = PROJECT_ROOT) -> str:
    """The command that installs packages into this Python: pinned by the checkout, else as the project asks."""
    pins = root / "constraints.txt"
    names = list(dict.fromkeys(packages))
    words = names if pins.is_file() else [_requirement(name) for name in names]
    command = [_short(Path(sys.executable)), "-m", "pip", "install", *words]
    return shlex.join([*command, "-c", _short(pins)] if pins.is_file() else command)


def _requirement(package: str) -> str:
    """What the project asks of a package: peft>=0.21.2,<0.22."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for line in importlib.metadata.requires("shoes") or []:
        asked = Requirement(line)
        is_meant = asked.marker is None or asked.marker.evaluate({"extra": ""})
        if is_meant and canonicalize_name(asked.name) == package:
            return f"{asked.name}{asked.specifier}"
    return package


def _short(path: Path) -> str:
    """Relative to the working folder where that is shorter to type."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
