"""What systems leave in folders by themselves, and what is never ours.

On drives without extended attributes (exFAT, FAT, most network shares) macOS keeps them in a file `._name` beside each
file. Such files come and go by themselves: with a copy to another drive, with `dot_clean`, with the file itself.
Finder, Spotlight and Windows leave others. None of them is a photo, a caption, a checkpoint or an adapter, and none
counts in a manifest.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

_BEGINNINGS = ("._", ".nfs", ".smbdelete")
"""AppleDouble files, and what NFS and SMB make of a file that is removed while it is open."""
_NAMES = {
    ".AppleDB",
    ".AppleDesktop",
    ".AppleDouble",
    ".DS_Store",
    ".DocumentRevisions-V100",
    ".LSOverride",
    ".PKInstallSandboxManager",
    ".Spotlight-V100",
    ".TemporaryItems",
    ".Trash",
    ".Trashes",
    ".VolumeIcon.icns",
    ".apdisk",
    ".com.apple.timemachine.donotpresent",
    ".com.apple.timemachine.supported",
    ".fseventsd",
    ".localized",
    ".metadata_never_index",
    "Icon\r",
    "Icon\uf00d",  # the same where the drive can't hold a carriage return
    "__MACOSX",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "desktop.ini",
}


def is_litter(name: str) -> bool:
    """A file or folder of this name is a system's own."""
    return name in _NAMES or name.startswith(_BEGINNINGS)


def has_litter(path: PurePath) -> bool:
    """A part of a relative path is a system's own."""
    return any(is_litter(part) for part in path.parts)


def without_litter(paths: Iterable[Path], folder: Path) -> Iterator[Path]:
    """Those of `paths`, all of them below `folder`, that are no system's own and lie in none."""
    return (path for path in paths if not has_litter(path.relative_to(folder)))


def visible(paths: Iterable[Path], folder: Path) -> Iterator[Path]:
    """Those of `paths`, all of them below `folder`, that a person sees there: neither hidden nor a system's own."""
    return (path for path in paths if all(map(is_visible, path.relative_to(folder).parts)))


def is_visible(name: str) -> bool:
    """A file or folder of this name is neither hidden nor a system's own."""
    return not name.startswith(".") and not is_litter(name)


def litter_in(folder: object, names: Iterable[str]) -> set[str]:
    """Those of `names` that are a system's own: what `shutil.copytree` takes as `ignore`."""
    del folder
    return {name for name in names if is_litter(name)}
