"""A killed import goes on, and ends with the same bytes as one that was never interrupted."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from shoes.dataset import import_data_set, load_split, photos
from shoes.dataset.staging import Staging
from shoes.errors import Busy, DataError
from shoes.spec import DataSpec

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
Contents = Callable[[Path], dict[str, bytes]]

SLOW_IMPORT = """
import sys, time
from pathlib import Path
from shoes.cli.command import start_logging
from shoes.dataset import import_data_set, photos
from shoes.spec import DataSpec
start_logging()
read = photos.read_photo
def read_slowly(path):
    time.sleep(0.1)
    return read(path)
photos.read_photo = read_slowly
def tell(done, total):
    print(done, flush=True)
try:
    import_data_set(sys.argv[1], Path(sys.argv[2]), DataSpec(), resolution=32, on_progress=tell)
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(source: Path, target: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SLOW_IMPORT, str(source), str(target)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stop_after(number: int, process: subprocess.Popen[str], how: signal.Signals) -> int:
    """Send a signal once so many photos are done; the process's exit code."""
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= number:
            break
    process.send_signal(how)
    process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_import_goes_on(
    how: signal.Signals,
    make_catalogue: Make,
    tmp_path: Path,
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, target = make_catalogue(), tmp_path / "out" / "set"
    import_data_set(source, tmp_path / "whole", DataSpec(), resolution=32)
    code = stop_after(15, start(source, target), how)
    assert code == (-9 if how == signal.SIGKILL else 130)
    assert [path.name for path in target.parent.iterdir()] == [".importing-set"]
    decoded: list[Path] = []
    real = photos.read_photo
    monkeypatch.setattr(photos, "read_photo", lambda path: decoded.append(path) or real(path))
    with caplog.at_level("INFO", "shoes"):
        import_data_set(source, target, DataSpec(), resolution=32)
    assert contents(target) == contents(tmp_path / "whole")
    assert [path.name for path in target.parent.iterdir()] == ["set"]
    assert 0 < len(decoded) <= 25
    assert f"going on: {40 - len(decoded)} of 40 photos were there" in caplog.messages


@pytest.fixture
def interrupted(make_catalogue: Make, tmp_path: Path) -> tuple[Path, Path]:
    """A source, and the target of an import of it that was interrupted after 20 of 40 photos."""
    source, target = make_catalogue(), tmp_path / "out" / "set"
    left = iter(range(20))
    real = photos.read_photo

    def read(path: Path) -> Image.Image:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos, "read_photo", read)
        with pytest.raises(KeyboardInterrupt):
            import_data_set(source, target, DataSpec(), resolution=32)
    assert [path.name for path in target.parent.iterdir()] == [".importing-set"]
    return source, target


def _square(target: Path, product_id: str) -> Path:
    return target.parent / ".importing-set" / "squares" / f"{product_id}.png"


def test_a_photo_that_changed_meanwhile_is_done_again(
    interrupted: tuple[Path, Path], draw: Draw, tmp_path: Path, contents: Contents
) -> None:
    source, target = interrupted
    done = sorted(_square(target, "x").parent.glob("*.png"))[:3]
    for square in done:
        draw(1000 + int(square.stem)).save(source / "images" / f"{square.stem}.jpg", quality=95)
    import_data_set(source, target, DataSpec(), resolution=32)
    import_data_set(source, tmp_path / "whole", DataSpec(), resolution=32)
    assert contents(target) == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["cut", "other", "gone", "lines", "torn", "nonsense"])
def test_squares_that_are_not_what_they_were_are_made_again(
    damage: str, interrupted: tuple[Path, Path], tmp_path: Path, contents: Contents
) -> None:
    source, target = interrupted
    squares = sorted(_square(target, "x").parent.glob("*.png"))
    lines = target.parent / ".importing-set" / "squares.jsonl"
    if damage == "cut":
        squares[0].write_bytes(squares[0].read_bytes()[:100])
    elif damage == "other":
        shutil.copy(squares[1], squares[0])
    elif damage == "gone":
        squares[0].unlink()
    elif damage == "lines":
        lines.write_text(lines.read_text().replace('"square":"', '"square":"0'))
    elif damage == "torn":
        lines.write_bytes(lines.read_bytes()[:-30])
    else:
        lines.write_bytes(lines.read_bytes() + b'\xff\xfe{"id": []}\n[1]\n"x"\n{"id": "100"}\n')
    import_data_set(source, target, DataSpec(), resolution=32)
    import_data_set(source, tmp_path / "whole", DataSpec(), resolution=32)
    assert contents(target) == contents(tmp_path / "whole")


def test_another_resolution_starts_over_and_another_seed_does_not(
    interrupted: tuple[Path, Path], tmp_path: Path, contents: Contents, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = interrupted
    shutil.copytree(target.parent, tmp_path / "other")
    with caplog.at_level("INFO", "shoes"):
        import_data_set(source, target, DataSpec(), resolution=24)
    assert not [message for message in caplog.messages if message.startswith("going on")]
    import_data_set(source, tmp_path / "small", DataSpec(), resolution=24)
    assert contents(target) == contents(tmp_path / "small")
    with caplog.at_level("INFO", "shoes"):
        import_data_set(source, tmp_path / "other" / "set", DataSpec(seed=7), resolution=32)
    assert [message for message in caplog.messages if message.startswith("going on")]
    import_data_set(source, tmp_path / "seven", DataSpec(seed=7), resolution=32)
    assert contents(tmp_path / "other" / "set") == contents(tmp_path / "seven")


def test_an_old_data_set_is_whole_until_the_new_one_is(
    interrupted: tuple[Path, Path], make_catalogue: Make, contents: Contents
) -> None:
    source, target = interrupted
    import_data_set(source, target, DataSpec(), resolution=32)
    before = contents(target)
    other = make_catalogue(name="newer/catalogue", first=120)
    process = start(other, target)
    assert stop_after(10, process, signal.SIGKILL) == -9
    assert contents(target) == before
    import_data_set(other, target, DataSpec(), resolution=32)
    ids = {int(r.attributes["id"]) for s in ("train", "val", "test") for r in load_split(target / s)}
    assert min(ids) == 120


def test_what_was_linked_into_a_data_set_is_never_written_to(
    make_catalogue: Make, draw: Draw, tmp_path: Path, contents: Contents
) -> None:
    """Killed between the rename and the end, squares and data set share their bytes on the disk."""
    source, target = make_catalogue(), tmp_path / "set"
    import_data_set(source, target, DataSpec(), resolution=32)
    (tmp_path / ".importing-set").mkdir()
    with Staging(tmp_path / ".importing-set", 32) as left_behind:
        for image in target.glob("*/images/*.png"):
            os.link(image, left_behind.path(image.stem))
    before = contents(target)
    for number in range(100, 140):
        draw(1000 + number).save(source / "images" / f"{number}.jpg", quality=95)

    def look(done: int, total: int) -> None:
        assert contents(target) == before

    import_data_set(source, target, DataSpec(), resolution=32, on_progress=look)
    assert contents(target) != before


def test_an_error_leaves_nothing(interrupted: tuple[Path, Path]) -> None:
    source, target = interrupted
    for photo in (source / "images").iterdir():
        photo.write_bytes(b"damaged")
    with pytest.raises(DataError):
        import_data_set(source, target, DataSpec(), resolution=32)
    assert list(target.parent.iterdir()) == []


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    make_catalogue: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_catalogue()
    room = iter(range(20))
    real = Staging.write

    def write(self: Staging, product_id: str, png: bytes) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, product_id, png)

    monkeypatch.setattr(Staging, "write", write)
    with pytest.raises(DataError, match=r"can't be written: No space left on device[\s\S]*--out"):
        import_data_set(source, tmp_path / "out" / "set", DataSpec(), resolution=32)
    assert list((tmp_path / "out").iterdir()) == []


def test_one_import_at_a_time(make_catalogue: Make, tmp_path: Path) -> None:
    source, target = make_catalogue(), tmp_path / "set"
    folder = tmp_path / ".importing-set"
    folder.mkdir()
    with FileLock(folder / "lock"), pytest.raises(Busy, match="Another process imports"):
        import_data_set(source, target, DataSpec(), resolution=32)
    assert not target.exists()
    import_data_set(source, target, DataSpec(), resolution=32)


def test_a_drive_without_links_gets_copies(
    make_catalogue: Make, tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_catalogue()
    import_data_set(source, tmp_path / "linked", DataSpec(), resolution=32)

    def refuse(one: Path, two: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    import_data_set(source, tmp_path / "copied", DataSpec(), resolution=32)
    assert contents(tmp_path / "linked") == contents(tmp_path / "copied")


def test_the_lines_hold_no_half_measured_photo(interrupted: tuple[Path, Path]) -> None:
    _, target = interrupted
    lines = (target.parent / ".importing-set" / "squares.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines[1:] if line]
    assert len(entries) == 20
    assert all(_square(target, entry["id"]).is_file() for entry in entries)
