"""Every arm's pictures: drawn, drawn again where they came out blank, and looked for by the gates."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from shoes import storage
from shoes.evaluation import gates
from shoes.evaluation.drawings import Drawing
from shoes.evaluation.inputs import Arm, Canvas
from shoes.evaluation.pictures import Draw, draw_set, redraw_blank, set_folder
from shoes.evaluation.table import HeldOut
from shoes.progress import Progress


class Tools(NamedTuple):
    """What an evaluation does with models, one arm after the other."""

    draw: Callable[[Arm], Draw]
    """Loads the model of an arm and returns what draws with it; asked only for an arm of which a picture is missing."""
    draw_precisely: Callable[[Arm], Draw] | None = None
    """The same in fp32, for pictures that came out blank; none: fp32 is what `draw` draws in."""
    measure_loss: Callable[[Arm], HeldOut] | None = None
    """Held-out loss of an arm on the test photos; none: it is not measured."""


def draw_arms(
    canvas: Canvas,
    arms: Sequence[Arm],
    drawings: Sequence[Drawing],
    tools: Tools,
    on_progress: Progress,
) -> tuple[dict[str, list[Path]], list[str]]:
    """Every arm's pictures by its name, and what is to be said of them.

    What came out blank is drawn again in fp32, once; what is blank all the same stays so.

    Raises:
        EvaluationError: pictures are missing or damaged.
    """
    total = len(drawings) * len(arms)
    pictures, notes = {}, []
    for number, arm in enumerate(arms):
        about = _about(canvas, arm)
        pictures[arm.name] = draw_set(
            _set_folder(canvas, arm, drawings),
            drawings,
            partial(tools.draw, arm),
            metadata=about,
            on_picture=_shifted(on_progress, number * len(drawings), total, arm.name),
        )
        if tools.draw_precisely is not None:
            count = redraw_blank(pictures[arm.name], drawings, partial(tools.draw_precisely, arm), metadata=about)
            notes += [f"{count} of {len(drawings)} pictures of {arm.name} were drawn again in fp32"] if count else []
    gates.require([p for arm, paths in pictures.items() for p in gates.check_pictures(arm, paths, len(drawings))])
    return pictures, notes


def _shifted(on_progress: Progress, before: int, total: int, note: str) -> Callable[[int], None]:
    """Progress of one arm as progress of all."""
    return lambda done: on_progress(before + done, total, note)


def _set_folder(canvas: Canvas, arm: Arm, drawings: Sequence[Drawing]) -> Path:
    return set_folder(
        canvas.cache_dir.absolute(),
        model_fingerprint=canvas.model_fingerprint,
        adapter_sha256=arm.adapter.sha256 if arm.adapter else None,
        drawings=drawings,
        settings=canvas.settings,
    )


def _about(canvas: Canvas, arm: Arm) -> dict[str, str]:
    """What is written into each picture, beside its prompt and seed."""
    return {
        "model": canvas.model_fingerprint,
        "adapter": arm.adapter.sha256 if arm.adapter else "none",
        "settings": storage.canonical_json(canvas.settings),
    }
