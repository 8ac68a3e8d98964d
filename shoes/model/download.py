"""Files of the Hub onto the disk: gone on with where they broke off, and there only with the right bytes.

The Hub's client compares only sizes, and begins a file anew after a restart; so the bytes are streamed here,
through the client's own session, into a partial file that the next try, or the next process, adds to.
"""

import errno
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from shoes.device import kept_awake
from shoes.durability import sync_path
from shoes.errors import ModelError, NotReady, Problem
from shoes.model.hub import Announcement, Patience, RemoteFile, Trouble, patiently
from shoes.progress import progress

log = logging.getLogger(__name__)
DOWNLOADS_PER_FILE = 2
"""A file with wrong bytes is downloaded once more, in case a proxy or the memory spoilt it."""
SPARE_BYTES = 200_000_000
"""Disk space that is left free."""
_PARTIAL = ".partial"
_WORTH_A_BAR = 1_000_000
"""Bytes; configs come in a blink."""
OnBytes = Callable[[int], None]


def download(announced: Announcement, paths: Sequence[str], folder: Path) -> None:
    """Put files into `folder`, each verified; those that are there already are kept.

    Raises:
        ModelError: a file can't be had, or only with wrong bytes.
        TransientError: the Hub is away; what has arrived is kept.
        NotReady: the disk is full.
    """
    files = [announced.files[path] for path in paths if not announced.files[path].is_equal(folder / path)]
    if not files:
        return
    whole = sum(file.size for file in files)
    arrived = {file.path: 0 for file in files}
    size = f"{whole / 1024**2:.1f} MB" if whole >= _WORTH_A_BAR else f"{whole / 1024:.0f} kB"
    log.info("downloading %d files of %s, %s, to %s", len(files), announced.name, size, folder)
    with kept_awake(), progress(f"downloading {announced.name}", "MB") as report:
        for file in files:

            def on_bytes(size: int, path: str = file.path) -> None:
                arrived[path] = size
                if whole >= _WORTH_A_BAR:
                    report(sum(arrived.values()) // 10**6, whole // 10**6, Path(path).name)

            _download_one(announced, file, folder, on_bytes)
    with suppress(OSError):  # what another file has got so far stays
        (folder / _PARTIAL).rmdir()


def require_space(announced: Announcement, paths: Sequence[str], folder: Path) -> None:
    """The disk has room for what is not there yet.

    Raises:
        NotReady: it has not; nothing was downloaded.
    """
    missing = 0
    for path in paths:
        file = announced.files[path]
        is_here = (folder / path).is_file() and (folder / path).stat().st_size == file.size
        missing += 0 if is_here else file.size - min(file.size, _size(_partial(file, folder)))
    place = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(place).free
    if missing and free < missing + SPARE_BYTES:
        text = f"{announced.name} needs {_gigabytes(missing + SPARE_BYTES)} here and {_gigabytes(free)} are free"
        fix = "free some space, or set SHOES_DATA_DIR to a folder on a larger disk"
        raise NotReady([Problem(str(place), text, fix)])


def _download_one(announced: Announcement, file: RemoteFile, folder: Path, on_bytes: OnBytes) -> None:
    target, partial = folder / file.path, _partial(file, folder)
    partial.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(DOWNLOADS_PER_FILE):
        try:
            _fill(announced, file, partial, on_bytes)
        except OSError as error:
            raise _disk_trouble(error, partial) from error
        if file.is_equal(partial):
            _put(partial, target)
            return
        partial.unlink()
        log.warning("%s/%s arrived with wrong bytes: it is downloaded again", announced.name, file.path)
    text = f"arrives with wrong bytes: they differ from {file.source}, {DOWNLOADS_PER_FILE} times in a row"
    fix = "try another network, or check HF_ENDPOINT and the proxy; the file was not kept"
    raise ModelError([Problem(f"{announced.name}/{file.path}", text, fix)])


def _fill(announced: Announcement, file: RemoteFile, partial: Path, on_bytes: OnBytes) -> None:
    """Add to the partial file until it has the announced size."""
    patience = Patience(f"{announced.name}/{file.path}")
    most = _size(partial)
    partial.touch()

    def go_on() -> None:
        nonlocal most
        try:
            _append(announced, file, partial, on_bytes)
        finally:
            if _size(partial) > most:
                most = _size(partial)
                patience.renew()

    while _size(partial) != file.size:
        patiently(patience, go_on)
        if _size(partial) > file.size:
            partial.write_bytes(b"")
            patience.bear(Trouble("more arrived than was announced"))
        elif _size(partial) < file.size:
            patience.bear(Trouble("less arrived than was announced"))


def _append(announced: Announcement, file: RemoteFile, partial: Path, on_bytes: OnBytes) -> None:
    """One request: from the first byte that is missing to the last."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    start = _size(partial)
    url = hf_hub_url(announced.name, file.path, revision=announced.commit)
    # identity: what is counted, and gone on with, are the file's own bytes
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        if response.status_code == 416:  # shorter than what is here
            partial.write_bytes(b"")
            return
        hf_raise_for_status(response)
        with partial.open("ab" if response.status_code == 206 else "wb") as out:
            for chunk in response.iter_raw():
                out.write(chunk)
                on_bytes(min(out.tell(), file.size))
                if out.tell() > file.size:
                    return


def _put(partial: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_path(partial)
    partial.replace(target)
    sync_path(target.parent)


def _disk_trouble(error: OSError, partial: Path) -> Exception:
    fix = "free some space, or set SHOES_DATA_DIR to a folder on a larger disk; then run the same again"
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return NotReady([Problem(str(partial.parent), "the disk is full; what has arrived is kept", fix)])
    return NotReady([Problem(str(partial.parent), f"can't be written: {error.strerror}", "make it writable")])


def _partial(file: RemoteFile, folder: Path) -> Path:
    """Named by its content, so that the beginning of one version is never gone on with by another."""
    return folder / _PARTIAL / f"{file.path.replace('/', '--')}-{file.identity[:16]}"


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1024**3:.1f} GB"
