"""A judge that sees something else on the device than on the CPU looks on the CPU, and the report says so."""

from pathlib import Path

import numpy as np
import pytest

from shoes import dataset
from shoes.evaluation.features import Looker
from shoes.evaluation.inputs import JudgeModel, Photos
from shoes.settings import PROJECT_ROOT
from tests.emulated import faults
from tests.emulated.tensor import Computer

PICTURES = faults.within("ClipScorer.embed_images")
CAPTIONS = faults.within("ClipScorer.embed_captions")


def look(folder: Path, small_data: Path, device: str) -> tuple[Looker, np.ndarray]:
    photos = Photos(dataset.load_split(small_data / "test")[:2], "test")
    judge = JudgeModel("the demo's CLIP", PROJECT_ROOT / "data/demo/clip", "clip")
    looker = Looker(judge, folder / device, device, 8, photos)
    read = looker.read([record.caption for record in photos.records])
    return looker, np.stack([looker.at_photos(photos), np.stack([read[record.caption] for record in photos.records])])


def test_a_wrong_judge_looks_on_the_cpu_and_says_so(
    tmp_path: Path, small_data: Path, mps: Computer, caplog: pytest.LogCaptureFixture
) -> None:
    _, expected = look(tmp_path, small_data, "cpu")
    looker, seen = look(tmp_path / "right", small_data, "mps")
    assert (looker.note, looker.encoder.device) == ("", "mps")
    assert np.allclose(seen, expected, atol=1e-5)
    cases = {
        "is ": faults.wrong("addmm", when=PICTURES),
        "is not finite": faults.wrong("native_layer_norm", change=lambda values: values * np.nan, when=CAPTIONS),
        "fails (NotImplementedError: The operator 'aten::native_layer_norm'": faults.missing("native_layer_norm"),
    }
    for number, (words, fault) in enumerate(cases.items()):
        with mps.faults.plant(fault):
            looker, seen = look(tmp_path / str(number), small_data, "mps")
        assert fault.count
        assert looker.note.startswith(f"the demo's CLIP looked on the CPU: on mps what it sees {words}")
        assert looker.encoder.device == "cpu"
        assert np.array_equal(seen, expected)
        assert looker.note in caplog.messages
