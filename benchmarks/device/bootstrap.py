"""Run the device kit by a Python that has PyTorch, beside whatever else it has. Needs nothing but the standard library.

    python3 benchmarks/device/bootstrap.py [options of the kit]
    python3 benchmarks/device/bootstrap.py --pack [FILE] [--for-python 3.12] [--for-platform manylinux_2_28_x86_64]

Where this Python has the packages of requirements.txt, it runs the kit itself. Else they go into an environment of
their own, .venv-device, that sees this Python's PyTorch and touches nothing of it: from the folder wheels or the
archive device-wheels.tar.xz in the project if there is one, without an index, else from the index. `--pack` makes that
archive, 15 MB for 32 MB of wheels, for a machine that has no index.
"""

import argparse
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).resolve().with_name("requirements.txt")
ENVIRONMENT = PROJECT / ".venv-device"
WHEELS = PROJECT / "wheels"
ARCHIVE = PROJECT / "device-wheels.tar.xz"
OLDEST_PYTHON, OLDEST_TORCH = (3, 11), (2, 8)
Installed = Callable[[str], str | None]
"""The version of a package; None where it is not there."""


def main() -> None:
    if "--pack" in sys.argv[1:2]:
        pack(sys.argv[2:])
        return
    if fault := python_fault(sys.version_info[:2], installed("torch")):
        sys.exit(fault)
    python = sys.executable if not lacking(installed) else str(beside_this_python())
    os.chdir(PROJECT)
    os.execv(python, [python, "-m", "benchmarks.device", *sys.argv[1:]])


def python_fault(version: tuple[int, int], torch: str | None) -> str:
    """Why a Python can't run the kit; empty where it can."""
    if version < OLDEST_PYTHON:
        return f"Python 3.11 or newer is needed; this is {version[0]}.{version[1]}. Name another one: make PYTHON=…"
    if torch is None:
        return f"{sys.executable} has no PyTorch. Name a Python that has: make device-check PYTHON=…"
    if numbers(torch)[:2] < OLDEST_TORCH:
        return f"PyTorch 2.8 or later is needed; {sys.executable} has {torch}."
    return ""


def requirements() -> Iterator[tuple[str, str, str]]:
    """Each package with `==`, `>=` or nothing, and a version."""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"([\w-]+)(?:(==|>=)([\w.]+))?", line.strip()):
            yield found[1], found[2] or "", found[3] or ""


def lacking(version_of: Installed) -> list[str]:
    """The packages that are not there, or in a version that will not do."""
    return [name for name, how, wanted in requirements() if not _will_do(version_of(name), how, wanted)]


def _will_do(found: str | None, how: str, wanted: str) -> bool:
    if found is None:
        return False
    return {"": True, "==": found == wanted, ">=": not how or numbers(found) >= numbers(wanted)}[how]


def numbers(version: str) -> tuple[int, ...]:
    """(2, 13, 0) of 2.13.0+cu130."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def installed(name: str) -> str | None:
    """A package's version in this Python."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def beside_this_python() -> Path:
    """The Python of an environment that has the packages, and sees this one's."""
    python = ENVIRONMENT / "bin/python"
    if not python.is_file():
        run([sys.executable, "-m", "venv", "--system-site-packages", str(ENVIRONMENT)])
    _let_it_see_this_one(python)
    run([str(python), *pip_arguments(local_wheels())])
    return python


def _let_it_see_this_one(python: Path) -> None:
    """`--system-site-packages` passes over this Python's packages where it is an environment itself."""
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    there = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (own / "beside.pth").write_text("\n".join(there) + "\n", encoding="utf-8")


def pip_arguments(wheels: Path | None) -> list[str]:
    """How to install what is lacking; nothing that PyTorch brought is replaced for a dependency's sake."""
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    quiet = ["--quiet", "--disable-pip-version-check", "--no-warn-conflicts"]
    return ["-m", "pip", "install", *quiet, "--no-deps", *source, "-r", str(REQUIREMENTS)]


def local_wheels() -> Path | None:
    """The folder of wheels that came with the project."""
    if WHEELS.is_dir():
        return WHEELS
    if not ARCHIVE.is_file():
        return None
    folder = ENVIRONMENT / "wheels"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def run(command: list[str]) -> None:
    """A command, or an end with its own words."""
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(f"`{' '.join(command)}` ended with code {code}")


def pack(arguments: Sequence[str]) -> None:
    """Make the archive of wheels for a machine without an index."""
    parser = argparse.ArgumentParser(prog="bootstrap.py --pack", description="Wheels for a machine without an index.")
    parser.add_argument("file", nargs="?", type=Path, default=ARCHIVE)
    parser.add_argument("--for-python", help="3.12, say; this one's")
    parser.add_argument("--for-platform", action="append", default=[], help="manylinux_2_28_x86_64, say; this one's")
    parser.add_argument("--with-numpy", action="store_true", help="NumPy and Pillow too: 24 MB more")
    given = parser.parse_args(arguments)
    target = [word for platform in given.for_platform for word in ("--platform", platform)]
    target += ["--python-version", given.for_python] if given.for_python else []
    wanted = [f"{name}{how}{version}" for name, how, version in requirements()]
    wanted = [line for line in wanted if given.with_numpy or not line.startswith(("numpy", "pillow"))]
    with tempfile.TemporaryDirectory() as folder:
        binary = ["--only-binary", ":all:"] if target else []
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        run([*command, *binary, *target, *wanted])
        archive(sorted(Path(folder).glob("*.whl")), given.file)
    print(f"{given.file}: {given.file.stat().st_size / 1e6:.1f} MB")


def archive(wheels: Sequence[Path], file: Path) -> None:
    """Wheels without compression of their own, compressed together."""
    with tarfile.open(file, "w:xz") as packed:
        for wheel in wheels:
            content = _stored(wheel)
            entry = tarfile.TarInfo(wheel.name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))


def _stored(wheel: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            target.writestr(entry, source.read(entry), zipfile.ZIP_STORED)
    return out.getvalue()


if __name__ == "__main__":
    main()
