from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoes import storage
from shoes.evaluation.drawings import Drawing, DrawingSettings
from shoes.evaluation.pictures import Draw, draw_set, open_picture, picture_paths, same_pixels, set_folder

DRAWINGS = [Drawing(f"{colour} shoes", seed, 0) for seed, colour in enumerate(["red", "blue", "green"] * 2)]
SETTINGS = DrawingSettings(
    scheduler="ddim",
    num_inference_steps=5,
    guidance_scale=4.0,
    negative_prompt="",
    resolution=64,
    device_type="cpu",
    dtype="float32",
)


def boxes(drawings: Sequence[Drawing]) -> Iterator[Image.Image]:
    for drawing in drawings:
        yield Image.new("RGB", (64, 64), (250, 20 * drawing.seed, 0))


class Studio:
    """Draws, remembers what, and stops like a killed process after `limit` pictures."""

    def __init__(self, limit: int = 100) -> None:
        self.seeds: list[int] = []
        self.loads = 0
        self.limit = limit

    def load(self) -> Draw:
        self.loads += 1
        return self.draw

    def draw(self, drawings: Sequence[Drawing], /) -> Iterator[Image.Image]:
        for drawing, picture in zip(drawings, boxes(drawings), strict=True):
            if len(self.seeds) == self.limit:
                raise KeyboardInterrupt
            self.seeds.append(drawing.seed)
            yield picture


def fill(folder: Path, studio: Studio) -> list[Path]:
    return draw_set(folder, DRAWINGS, studio.load, metadata={"model": "tiny"})


def test_a_sealed_set_loads_no_model(tmp_path: Path) -> None:
    paths = fill(tmp_path / "set", Studio())
    assert storage.is_whole(tmp_path / "set")
    again = Studio()
    assert fill(tmp_path / "set", again) == paths
    assert again.loads == 0
    assert [path.name for path in paths[:2]] == ["0000.png", "0001.png"]


def test_an_interrupted_set_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "set", Studio(limit=2))
    assert not storage.is_whole(tmp_path / "set")
    (tmp_path / "set" / ".partial-0002.png").write_bytes(b"half")
    second = Studio()
    fill(tmp_path / "set", second)
    assert second.seeds == [2, 3, 4, 5]
    fill(tmp_path / "other", Studio())
    assert storage.hash_files(tmp_path / "set") == storage.hash_files(tmp_path / "other")


def test_a_cut_picture_of_an_unsealed_set_is_drawn_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, Studio(limit=3))
    path = picture_paths(tmp_path, 2)[1]
    path.write_bytes(path.read_bytes()[:-30])
    again = Studio()
    fill(tmp_path, again)
    assert again.seeds == [1, 3, 4, 5]


@pytest.mark.parametrize("harm", ["cut", "changed", "removed"])
def test_only_a_harmed_picture_is_drawn_again(tmp_path: Path, harm: str) -> None:
    paths = fill(tmp_path, Studio())
    before = storage.hash_files(tmp_path)
    if harm == "cut":
        paths[3].write_bytes(paths[3].read_bytes()[:200])
    elif harm == "changed":
        Image.new("RGB", (64, 64), "red").save(paths[3])
    else:
        paths[3].unlink()
    again = Studio()
    fill(tmp_path, again)
    assert again.seeds == [3]
    assert storage.hash_files(tmp_path) == before


def test_a_damaged_manifest_vouches_for_nothing(tmp_path: Path) -> None:
    fill(tmp_path, Studio())
    (tmp_path / storage.MANIFEST).write_text("{")
    again = Studio()
    fill(tmp_path, again)
    assert len(again.seeds) == len(DRAWINGS)


def test_a_source_that_stops_early_leaves_the_set_unsealed(tmp_path: Path) -> None:
    paths = draw_set(tmp_path, DRAWINGS, lambda: lambda todo: boxes(todo[:-1]), metadata={})
    assert len(paths) == len(DRAWINGS)
    assert not paths[-1].exists()
    assert not storage.is_whole(tmp_path)


def test_a_picture_says_how_it_was_drawn(tmp_path: Path) -> None:
    with Image.open(fill(tmp_path, Studio())[1]) as picture:
        picture.load()
        assert picture.info == {"prompt": "blue shoes", "seed": "1", "model": "tiny"}


def test_progress_counts_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, Studio(limit=4))
    told: list[int] = []
    draw_set(tmp_path, DRAWINGS, Studio().load, metadata={}, on_picture=told.append)
    assert told == [4, 5, 6]


def test_a_broken_chunk_is_an_os_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(noise).save(path)
    data = bytearray(path.read_bytes())
    second = data.index(b"IDAT", data.index(b"IDAT") + 4)
    data[second : second + 4] = b"\x00\x00\x00\x00"
    path.write_bytes(data)
    with Image.open(path) as picture, pytest.raises(SyntaxError):
        picture.load()
    with pytest.raises(OSError, match="is damaged"):
        open_picture(path)


def test_pixels_are_compared_not_files(tmp_path: Path) -> None:
    first, second = fill(tmp_path, Studio())[:2]
    open_picture(first).save(tmp_path / "again.png")
    assert first.read_bytes() != (tmp_path / "again.png").read_bytes()
    assert same_pixels(first, tmp_path / "again.png")
    assert not same_pixels(first, second)


def test_all_that_decides_a_picture_is_in_its_folder_name(tmp_path: Path) -> None:
    def name(model="m", adapter=None, drawings=DRAWINGS, settings=SETTINGS) -> str:
        return set_folder(
            tmp_path, model_fingerprint=model, adapter_sha256=adapter, drawings=drawings, settings=settings
        ).name

    changes = {
        "scheduler": "euler",
        "num_inference_steps": 6,
        "guidance_scale": 5.0,
        "negative_prompt": "blurry",
    }
    changes |= {"resolution": 128, "device_type": "mps", "dtype": "bfloat16", "vae_tiling": True}
    assert set(changes) == set(DrawingSettings.model_fields)
    names = [name(), name(model="n"), name(adapter="a"), name(drawings=DRAWINGS[:-1])]
    names += [name(settings=SETTINGS.model_copy(update={key: value})) for key, value in changes.items()]
    assert len(set(names)) == len(names)
    assert name() == name()


def test_paths_are_in_order() -> None:
    assert picture_paths(Path("x"), 2) == [Path("x/0000.png"), Path("x/0001.png")]
