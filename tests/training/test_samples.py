"""The samples drawn while training: the base beside the adapter, drawn once, the same size at every step."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shoes.spec import Recipe
from shoes.tracking.journal import Journal, read_events
from shoes.training import loop, lora, validation
from shoes.training.recovery import step_or_recover
from shoes.training.session import Session
from tests.training.opening import session_of, train


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


def pictures(folder: Path) -> list[np.ndarray]:
    return [pixels(file) for file in sorted(folder.glob("*.png"))]


def equal(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_every_sample_is_kept_and_shown_beside_the_bases(micro: Callable[..., Recipe]) -> None:
    run = train(micro({"train.validation_prompts": "a,b,c"})).run_dir
    samples = run / "samples"
    base = pictures(next(samples.glob("base-*")))
    assert len(base) == 3
    assert not equal(base, pictures(samples / "step-000004"))
    grids = [pixels(samples / f"step-{step:06d}.png") for step in (0, 2, 4)]
    assert len({grid.shape for grid in grids}) == 1
    start, end = grids[0], grids[-1]
    middle = start.shape[1] - 32 - 176 - 12
    below_titles = slice(60, None)
    assert np.array_equal(start[:, :middle], end[:, :middle]), "the base's column stays"
    assert not np.array_equal(start[below_titles, middle:], end[below_titles, middle:])
    events = [e for e in read_events(run / "journal.jsonl") if e["kind"] == "image"]
    assert [event["step"] for event in events if event["key"] == "samples"] == [0, 2, 4]


def test_the_base_is_drawn_once_and_without_the_adapter(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(micro())
    drawn = []
    real = validation.draw_samples
    monkeypatch.setattr(validation, "draw_samples", lambda s, p, prompts: drawn.append(s.step) or real(s, p, prompts))
    folder = session.job.folder / "samples"
    with Journal(session.job.journal) as journal:
        validation.validate(session, journal)
        assert drawn == [0], "at step 0 the adapter changes nothing"
        base = pictures(next(folder.glob("base-*")))
        weights = lora.adapter_weights(session.objective.unet)
        lora.set_adapter_weights(session.objective.unet, {name: w + 0.05 for name, w in weights.items()})
        session.step = 2
        validation.validate(session, journal)
        assert drawn == [0, 2]
        shutil.rmtree(next(folder.glob("base-*")))
        session.step = 4
        validation.validate(session, journal)
    assert drawn == [0, 2, 4, 4], "files that are gone are drawn again"
    assert equal(pictures(next(folder.glob("base-*"))), base)
    assert equal(pictures(folder / "step-000002"), pictures(folder / "step-000004"))
    assert not equal(pictures(folder / "step-000002"), base)
    assert len(lora.trainable(session.objective.unet)) == len(weights), "the adapter learns on"


def test_another_sampler_draws_the_base_anew(micro: Callable[..., Recipe]) -> None:
    stages_of = [micro({"train.max_train_steps": "0", "eval.num_inference_steps": steps}) for steps in ("2", "3")]
    sessions = [session_of(recipe) for recipe in stages_of]
    assert sessions[0].job.folder == sessions[1].job.folder, "how samples are drawn does not change the training"
    for session in sessions:
        validation._base_samples(session, validation.sample_prompts(session))
    assert len(list((sessions[0].job.folder / "samples").glob("base-*"))) == 2


def test_no_memory_for_the_pictures_costs_the_pictures_only(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    session = session_of(micro())
    monkeypatch.setattr(validation, "draw_samples", full)
    with Journal(session.job.journal) as journal:
        validation.validate(session, journal)
        assert "samples/0" not in journal
    assert [loss.step for loss in session.losses] == [0]
    assert "step 0 has no sample pictures" in caplog.text


def test_an_error_after_a_step_costs_no_step(micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step's validation breaks: all steps are saved, and the next start has only the validation to do."""
    recipe = micro({"train.max_train_steps": "3", "train.save_steps": "3", "train.validation_steps": "3"})
    draw_now = validation.draw_with_session

    def broken(session: Session, prompts: object) -> object:
        if session.step == 3:
            raise ValueError("a bug in drawing")
        return draw_now(session, prompts)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "draw_with_session", broken)
        with pytest.raises(ValueError, match="a bug in drawing"):
            train(recipe)
    steps = []
    monkeypatch.setattr(loop, "step_or_recover", lambda *given: steps.append(given) or step_or_recover(*given))
    report = train(recipe)
    assert (report.step, report.resumed_from, steps) == (3, (3,), [])
