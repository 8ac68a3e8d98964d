"""What is encoded once: mirrored photos, damage, and memory that does not grow with the data set."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shoes.dataset import load_split
from shoes.model.load import load_vae
from shoes.spec import Recipe
from shoes.training.cache import CacheKey, encode_photos, existing_cache, open_cache, remake_cache
from shoes.training.session import cache_key
from tests.training.opening import job_of

Make = Callable[..., Recipe]


def opened(key: CacheKey, make=open_cache):
    reports: list[tuple[int, int]] = []
    cache = make(key, batch_size=8, on_progress=lambda done, total: reports.append((done, total)))
    return cache, reports


@pytest.fixture
def key(micro: Make) -> CacheKey:
    """Of a cache that is not there."""
    found = cache_key(job_of(micro({"train.random_flip": "true"})), "cpu", 0)
    shutil.rmtree(found.folder)
    return found


def without_flips(key: CacheKey) -> CacheKey:
    return CacheKey(**{**key.__dict__, "with_flips": False})


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_mirrored_photos_are_a_second_array_beside_the_first(key: CacheKey) -> None:
    plain, _ = opened(without_flips(key))
    before = bytes_below(key.plain)
    assert sorted(path.name for path in key.folder.iterdir()) == [key.plain.name]
    both, reports = opened(key)
    assert reports[-1] == (len(both), len(both)), "the mirrored ones only"
    assert len(reports) == -(-len(both) // 8)
    assert bytes_below(key.plain) == before
    assert plain.mirrored is None
    again, nothing = opened(key)
    assert not nothing
    assert np.array_equal(again.mirrored, both.mirrored)


def test_mirrored_moments_are_those_of_the_mirrored_photo(key: CacheKey, tmp_path: Path) -> None:
    cache, _ = opened(key)
    records = load_split(key.split)[:4]
    mirrored = []
    for record in records:
        with Image.open(record.image) as image:
            file = tmp_path / record.image.name
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file)
        mirrored.append(record.model_copy(update={"image": file}))
    expected = torch.from_numpy(encode_photos(load_vae(key.model.path, device="cpu"), mirrored, "cpu"))
    rows, _ = cache.rows(range(4), [True] * 4)
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-4)
    latents_mirrored = cache.rows(range(4))[0].flip(-1)
    assert (rows - latents_mirrored)[:, 0].abs().mean() > 1e-3, "a VAE is not symmetric"


def test_rows_are_mirrored_where_they_are_flipped(key: CacheKey) -> None:
    cache, _ = opened(key)
    plain, captions = cache.rows([3, 1, 2])
    flipped, same = cache.rows([3, 1, 2], [True, False, True])
    assert torch.equal(captions, same)
    assert torch.equal(flipped[1], plain[1])
    assert torch.equal(flipped[0], torch.tensor(cache.mirrored[3]))
    assert torch.equal(flipped[2], torch.tensor(cache.mirrored[2]))
    assert not torch.equal(flipped[0], plain[0])
    assert torch.equal(cache.rows([3, 1, 2], [False] * 3)[0], plain)
    with pytest.raises(AssertionError, match="without flips"):
        opened(without_flips(key))[0].rows([1], [True])


def test_captions_belong_to_their_photos(key: CacheKey) -> None:
    cache, _ = opened(without_flips(key))
    records = load_split(key.split)
    assert [cache.captions[row] for row in cache.caption_of] == [record.caption for record in records]
    assert len(cache.captions) == len(cache.text)
    assert cache.captions[cache.empty_caption] == ""
    _, rows = cache.rows([0, 2])
    assert rows.dtype == torch.int64
    assert rows.tolist() == [cache.caption_of[0], cache.caption_of[2]]


def test_captions_are_read_when_they_are_asked_for(key: CacheKey) -> None:
    cache, _ = opened(without_flips(key))
    (key.plain / "captions.json").unlink()
    assert len(cache) == len(load_split(key.split))
    cache.rows([0, 1])
    assert not cache.damaged_rows(range(4))
    with pytest.raises(FileNotFoundError):
        cache.captions[0]


def test_what_exists_is_all_that_is_wanted(key: CacheKey) -> None:
    assert existing_cache(key) is None
    opened(without_flips(key))
    assert existing_cache(without_flips(key)) is not None
    assert existing_cache(key) is None, "the mirrored photos are missing"
    opened(key)
    assert existing_cache(key).mirrored is not None


@pytest.mark.parametrize("array", ["moments", "mirrored", "text"])
def test_damaged_rows_are_named_and_a_remade_cache_has_none(key: CacheKey, array: str) -> None:
    cache, _ = opened(key)
    good = cache.rows(range(6), [True, False] * 3)[0]
    assert cache.damaged_rows([5, 2, 2, 0]) == []
    file = key.mirrored / "moments.npy" if array == "mirrored" else key.plain / f"{array}.npy"
    row = int(cache.caption_of[2]) if array == "text" else 2
    writable = np.load(file, mmap_mode="r+")
    writable[row].flat[7] = np.nan
    writable.flush()
    found = cache.damaged_rows([5, 2, 2, 0])
    assert found == [i for i in (0, 2, 5) if i == 2 or (array == "text" and cache.caption_of[i] == row)]
    remade, reports = opened(key, remake_cache)
    assert len(reports) == 2 * -(-len(cache) // 8), "both arrays"
    assert remade.damaged_rows(range(len(remade))) == []
    assert torch.equal(remade.rows(range(6), [True, False] * 3)[0], good)


def test_a_damaged_empty_caption_damages_all(key: CacheKey) -> None:
    cache, _ = opened(without_flips(key))
    writable = np.load(key.plain / "text.npy", mmap_mode="r+")
    writable[-1].flat[0] = np.inf
    writable.flush()
    assert cache.damaged_rows([4, 1]) == [1, 4]


MEASURE = """
import json, sys
from pathlib import Path
import torch
from shoes.reports import ModelReport
from shoes.training.cache import CacheKey, existing_cache

fields = json.loads(sys.argv[1])
key = CacheKey(ModelReport.model_validate_json(fields["model"]), Path(fields["split"]), fields["split_fingerprint"],
               Path(fields["folder"]), "cpu")
def private():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(fields["RssAnon"].split()[0])
torch.zeros(1)
before = private()
cache = existing_cache(key)
rows, captions = cache.rows([7 * len(cache) // 16 % len(cache)] + [n * len(cache) // 16 for n in range(15)])
print(json.dumps([len(cache), private() - before, rows.nbytes]))
"""


def grown(key: CacheKey, size: int) -> CacheKey:
    """The key of a cache of `size` photos; their latents are 0, and take no disk."""
    from shoes.storage import new_folder

    source, _ = opened(without_flips(key))
    larger = CacheKey(**{**without_flips(key).__dict__, "split_fingerprint": f"{size} photos"})
    shape = (size, *source.moments.shape[1:])
    with new_folder(larger.plain) as partial:
        np.lib.format.open_memmap(partial / "moments.npy", mode="w+", dtype=np.float32, shape=shape).flush()
        np.save(partial / "text.npy", source.text)
        np.save(partial / "caption_of.npy", source.caption_of[np.arange(size) % len(source)])
        (partial / "captions.json").write_text(json.dumps(list(source.captions)))
    return larger


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell mapped pages from others")
def test_fifty_thousand_photos_need_no_more_memory_than_two_hundred(key: CacheKey) -> None:
    """Of their own: pages of the mapped files are the system's, which drops them when it needs room."""
    taken = {}
    for size in (200, 50_000):
        larger = grown(key, size)
        fields = {"model": larger.model.model_dump_json(), "split": str(larger.split), "folder": str(larger.folder)}
        fields["split_fingerprint"] = larger.split_fingerprint
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, json.dumps(fields)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        length, private, row_bytes = json.loads(done.stdout)
        assert length == size
        assert private > row_bytes / 2, "at least the rows that were read are counted"
        taken[size] = private
    assert taken[50_000] - taken[200] < 1e6, taken
