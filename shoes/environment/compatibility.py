"""Versions that are known not to work together, though each is fine by itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from shoes.language import mark


@dataclass(frozen=True)
class Conflict:
    """Two packages, what happens, and which versions of the second are good."""

    package: str
    versions: str
    other: str
    bad: str
    """From the first pre-release on."""
    good: str
    effect: str


KNOWN_CONFLICTS = (
    Conflict(
        "prefect", "~=3.8.0", "fastapi", ">=0.151.dev0", "fastapi>=0.139,<0.151", mark("its server may not start")
    ),
    Conflict(
        "prefect",
        "~=3.8.0",
        "sqlalchemy",
        ">=2.1.dev0",
        "sqlalchemy>=2.0,<2.1",
        mark("scheduled runs are never made"),
    ),
)


def conflicts(versions: Mapping[str, str]) -> list[Conflict]:
    """The known conflicts among installed versions, by package."""
    return [
        conflict
        for conflict in KNOWN_CONFLICTS
        if _is_in(versions.get(conflict.package), conflict.versions)
        and _is_in(versions.get(conflict.other), conflict.bad)
    ]


def _is_in(version: str | None, wanted: str) -> bool:
    return version is not None and SpecifierSet(wanted, prereleases=True).contains(version)
