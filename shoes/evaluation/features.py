"""What the judges see: a unit vector of every picture, photo and caption, kept so that none is looked at twice."""

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shoes import storage
from shoes.evaluation.clip import ClipScorer, load_clip
from shoes.evaluation.encoders import DinoEncoder, Vectors, embed_files, load_dino
from shoes.evaluation.floor import captions_to_read
from shoes.evaluation.inputs import EvaluationInputs, JudgeModel, Photos
from shoes.evaluation.soundness import CPU, placed
from shoes.evaluation.statistics import Floats
from shoes.reports import Role

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """What one judge sees: unit vectors [rows, width]."""

    arms: Mapping[str, Floats]
    """By arm, in the order of its pictures."""
    photos: Floats
    """Of all test photos, in the split's order."""
    training: Floats | None = None
    """Of all training photos, where they are compared."""
    validation: Floats | None = None
    """Of all validation photos, likewise."""
    captions: Mapping[str, Floats] = field(default_factory=dict)
    """By caption; empty for a judge without words."""
    note: str = ""
    """Why the judge looked on another device than it was to; nothing: it did not."""


def look(inputs: EvaluationInputs, pictures: Mapping[str, Sequence[Path]]) -> dict[Role, Features]:
    """What each judge sees, by its role: one judge after the other, so that only one is in memory."""
    captions = captions_to_read({record.caption for record in inputs.records})
    found: dict[Role, Features] = {}
    for role, judge in inputs.judges.by_role().items():
        log.info("looking at pictures and photos with %s", judge.name)
        has_words = role != "dino"
        where = (inputs.cache_dir, inputs.device, inputs.batch_size, inputs.test)
        looked = Looker(judge, *where, has_words=has_words)
        found[role] = Features(
            arms={arm: looked.at_pictures(paths) for arm, paths in pictures.items()},
            photos=looked.at_photos(inputs.test),
            training=looked.at_photos(inputs.training) if role != "second_clip" else None,
            validation=looked.at_photos(inputs.validation) if role != "second_clip" else None,
            captions=looked.read(captions) if has_words else {},
            note=looked.note,
        )
    return found


class Looker:
    """One judge, loaded when there is something that it has not seen, on a device where it sees what is there."""

    def __init__(
        self,
        judge: JudgeModel,
        cache: Path,
        device: str,
        batch_size: int,
        sample: Photos,
        *,
        has_words: bool = True,
    ) -> None:
        """`sample`: photos by which the judge is tried on the device (`soundness.placed`)."""
        self._judge, self._folder, self._device, self._batch_size = judge, cache / "features", device, batch_size
        self._sample, self._has_words = sample, has_words
        self._encoder: ClipScorer | DinoEncoder | None = None
        self.note = ""
        """Why it looks on another device than it was to; nothing: it does not."""

    @property
    def encoder(self) -> ClipScorer | DinoEncoder:
        """The model in memory."""
        if self._encoder is None:
            path, where = self._judge.path, (self._device, self._sample, self._batch_size)
            if self._has_words:
                self._encoder, fault = placed(load_clip(path, CPU), *where)
            else:
                self._encoder, fault = placed(load_dino(path, CPU), *where)
            if fault:
                self.note = f"{self._judge.name} looked on the CPU: on {self._device} what it sees {fault}"
                log.warning("%s", self.note)
        return self._encoder

    def at(self, paths: Sequence[Path], identity: object) -> Floats:
        """Unit vectors of pictures that `identity` stands for, in order."""
        return self._at(paths, identity).astype(np.float64)

    def _at(self, paths: Sequence[Path], identity: object) -> Vectors:
        file = self._folder / f"{storage.fingerprint(self._judge.fingerprint, identity)}.npy"
        kept = _read(file, len(paths))
        if kept is not None:
            return kept
        vectors = embed_files(self.encoder, paths, batch_size=self._batch_size)
        if np.isfinite(vectors).all():  # what is not finite is for the gates to find, and not to be kept
            storage.write_bytes(file, _as_bytes(vectors))
        return vectors

    def at_pictures(self, paths: Sequence[Path]) -> Floats:
        """Unit vectors of drawn pictures."""
        return self.at(paths, [storage.sha256(path) for path in paths])

    def at_photos(self, photos: Photos) -> Floats:
        """Unit vectors of a split's photos."""
        names = [record.image.name for record in photos.records]
        return self.at([record.image for record in photos.records], [photos.fingerprint, names])

    def read(self, captions: Sequence[str]) -> dict[str, Floats]:
        """Unit vectors of captions."""
        scorer = self.encoder
        assert isinstance(scorer, ClipScorer), "only CLIP reads"
        return dict(zip(captions, scorer.embed_captions(captions).astype(np.float64), strict=True))


def _as_bytes(vectors: Vectors) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()


def _read(file: Path, rows: int) -> Vectors | None:
    """Vectors that were kept, if the file is whole."""
    try:
        vectors: Vectors = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # not there, or cut short: it is made again
    return vectors if len(vectors) == rows and np.isfinite(vectors).all() else None
