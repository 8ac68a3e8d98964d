"""What to do next, computed from the night's reports: each with its reason and a command. Pure."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shoes.device.parity import in_words
from shoes.publishing.page.numbers import plain, signed
from shoes.reports import Breakdown, Comparison, HeldOutLoss, Interval, NightReport
from shoes.spec import Recipe

_OFF = 0.25
"""A forecast that is off by more than this share is worth a measurement."""


@dataclass(frozen=True)
class Step:
    """A piece of advice."""

    title: str
    why: str
    command: str


@dataclass(frozen=True)
class _Case:
    """What the rules look at."""

    night: NightReport
    recipe: Recipe
    spec: Path

    @property
    def against_base(self) -> Comparison:
        return self.night.evaluation.comparisons[0]

    @property
    def difference(self) -> Interval | None:
        """What the gate looks at, against the base; none where it was not measured or says nothing, or the pictures are
        the same."""
        found = self.against_base
        says_nothing = found.identical or self.night.evaluation.undecided
        return None if says_nothing else found.difference(self.night.promotion.metric)

    def run(self, **changes: object) -> str:
        """The night again, with other values."""
        words = [word for name, value in changes.items() for word in (f"--{name.replace('__', '.')}", str(value))]
        return shlex.join(["shoes", "run", "--recipe", str(self.spec), *words])

    def fewer_steps(self, steps: int) -> dict[str, object]:
        """Options for a shorter training; the warm-up has to end before it does."""
        steps = max(steps, 1)
        warmup = self.recipe.train.lr_warmup_steps
        shorter: dict[str, object] = {"train__lr_warmup_steps": steps // 10} if warmup >= steps else {}
        return {"train__max_train_steps": steps, **shorter}


def next_steps(night: NightReport, recipe: Recipe | None, spec: Path) -> tuple[Step, ...]:
    """Advice, the most pressing first.

    Args:
        night: what was found.
        recipe: with all its values; none: it is not known, and the defaults are taken for it.
        spec: the recipe's file, for the commands.
    """
    case = _Case(night, recipe or Recipe(), spec)
    return tuple(step for rule in _RULES for step in rule(case))


def _memorised(case: _Case) -> Iterator[Step]:
    alarm = case.night.evaluation.memorisation
    if alarm is None:
        return
    if alarm.fires:
        steps = case.fewer_steps(case.night.train.chosen_step // 2)
        dropout = max(0.1, case.recipe.train.lora_dropout)
        yield Step(
            "Train it less, so that it does not repeat its photos",
            f"The alarm fired: {alarm.reason} Half the steps and some dropout leave less room for learning by heart; "
            "more photos are better still.",
            case.run(**steps, train__lora_dropout=dropout),
        )
    elif not alarm.is_enough:
        yield Step(
            "Draw more pictures before you trust that nothing is repeated",
            f"The alarm is silent, but {alarm.num_drawn} pictures and {alarm.num_held_out} held-out photos are too few "
            "for that to mean much.",
            case.run(eval__images_per_caption=2 * case.recipe.eval.images_per_caption),
        )


def _blank(case: _Case) -> Iterator[Step]:
    counts = case.night.evaluation.num_blank
    if counts.get("base"):
        yield Step(
            "See what the base draws by itself",
            f"It drew {counts['base']} blank pictures: no adapter can mend that.",
            shlex.join(["shoes", "model", "try", "--recipe", str(case.spec)]),
        )
    elif counts.get("adapter"):
        rate = case.recipe.train.learning_rate / 2
        yield Step(
            "Train more gently",
            f"The adapter drew {counts['adapter']} blank pictures where the base draws none: most often the rate was "
            "too high.",
            case.run(train__learning_rate=f"{rate:.2g}"),
        )


def _undecided(case: _Case) -> Iterator[Step]:
    found = case.night.evaluation
    if case.against_base.identical or found.num_blank or not found.undecided:
        return
    source = case.recipe.data.source or "FOLDER"
    yield Step(
        "Give it photos to be judged by",
        f"There is no verdict, because {case.night.evaluation.undecided}. The adapter is trained and exported all the "
        "same: look at its pictures.",
        shlex.join(["shoes", "data", "import", source, "--recipe", str(case.spec)]),
    )


def _learned_nothing(case: _Case) -> Iterator[Step]:
    if case.against_base.identical:
        rate = 3 * case.recipe.train.learning_rate
        yield Step(
            "Let it learn something",
            f"After {case.night.train.step:,} steps the adapter draws what the base draws: it trained too little, or "
            "at too low a rate.",
            case.run(train__learning_rate=f"{min(rate, 0.5):.2g}", train__max_train_steps=_longer(case)),
        )


def _unclear(case: _Case) -> Iterator[Step]:
    found = case.difference
    if found is None or not found.low <= 0 <= found.high:
        return
    half = (found.high - found.low) / 2
    if abs(found.mean) >= half / 4:
        wanted = max(round(0.8 * abs(found.mean), 2), 0.05)
        times = (half / wanted) ** 2
        yield Step(
            "Measure more precisely",
            f"The difference of {signed(found.mean)} is within ± {plain(half)}, so it may be chance. About "
            f"{times:.1f} times as many pictures would tell ({plain(wanted)} points to either side).",
            case.run(eval__half_width=wanted),
        )
    else:
        yield Step(
            "Train longer",
            f"The difference of {signed(found.mean)} is tiny beside ± {plain(half)}: more pictures would only show "
            "that there is little to see.",
            case.run(train__max_train_steps=_longer(case)),
        )


def _longer(case: _Case) -> int:
    return max(2 * case.recipe.train.max_train_steps, 100)


def _worse(case: _Case) -> Iterator[Step]:
    if case.difference is not None and case.difference.high < 0:
        rate = case.recipe.train.learning_rate / 2
        yield Step(
            "Train more gently",
            "The adapter does worse than the base. Look at the pictures: where they fall apart the "
            "rate was too high; where they are good photos of something else the captions do not fit the photos.",
            case.run(train__learning_rate=f"{rate:.2g}"),
        )


def _overfits(case: _Case) -> Iterator[Step]:
    losses, chosen = case.night.train.losses, case.night.train.chosen_step
    if not is_overfitting(losses, chosen):
        return
    steps = case.fewer_steps(round(1.25 * chosen) or 1)
    rank = case.recipe.train.rank
    lower = {"train__rank": max(rank // 2, 1), "train__lora_alpha": max(case.recipe.train.lora_alpha // 2, 1)}
    yield Step(
        "Stop earlier, with a smaller adapter or more photos",
        f"After step {chosen:,} the held-out loss rose while the loss on training photos fell on: the rest of the "
        "night went into learning photos by heart.",
        case.run(**steps, **(lower if rank > 1 else {})),
    )


def is_overfitting(losses: Sequence[HeldOutLoss], chosen: int) -> bool:
    """An early checkpoint is the best, and since then the gap has grown by more than the last one's standard error."""
    at = next((loss for loss in losses if loss.step == chosen), None)
    last = losses[-1]
    if at is None or chosen > 0.7 * last.step:
        return False
    return (last.mean - last.train_mean) - (at.mean - at.train_mean) > (last.standard_error or 0.0)


def _still_learning(case: _Case) -> Iterator[Step]:
    losses, chosen = case.night.train.losses, case.night.train.chosen_step
    if len(losses) < 3 or chosen != losses[-1].step or case.against_base.identical:
        return
    gain, before = losses[-2].mean - losses[-1].mean, losses[0].mean - losses[-1].mean
    if before > 0 and gain > 0.05 * before:
        yield Step(
            "Train longer",
            f"The last checkpoint is the best, and the held-out loss was still falling: {100 * gain / before:.0f} % of "
            "the whole gain came after the last validation but one.",
            case.run(train__max_train_steps=_longer(case)),
        )


def _weak_groups(case: _Case) -> Iterator[Step]:
    weak = weak_values(case.night.evaluation.breakdowns)
    if weak:
        named = ", ".join(f"{row.value} ({_difference(row)}, {row.num_images} pictures)" for row in weak)
        source = case.recipe.data.source or "FOLDER"
        yield Step(
            f"Add photos: {', '.join(row.value.lower() for row in weak)}",
            f"The adapter gains least there: {named}.",
            shlex.join(["shoes", "data", "import", source, "--recipe", str(case.spec)]),
        )


def weak_values(rows: Sequence[Breakdown], most: int = 4) -> tuple[Breakdown, ...]:
    """Colours that are worse than the base, or whose whole interval lies below the mean of all colours."""
    colours = [row for row in rows if row.attribute == "colour"]
    total = sum(row.num_images for row in colours)
    mean = sum(row.num_images * (row.adapter - row.base) for row in colours) / total if total else 0.0
    weak = [row for row in colours if row.difference and (row.difference.high < max(mean, 0.0))]
    return tuple(sorted(weak, key=lambda row: row.adapter - row.base)[:most])


def _difference(row: Breakdown) -> str:
    return signed(row.adapter - row.base)


def _saved_itself(case: _Case) -> Iterator[Step]:
    kinds = {done.kind for done in case.night.train.interventions}
    spec = str(case.spec)
    if kinds & {"micro_batch", "checkpointing"}:
        yield Step(
            "Plan for the memory that there is",
            "Memory ran out on the way, and the training went on with smaller batches. The forecast finds what fits.",
            shlex.join(["shoes", "forecast", "--compare", "--recipe", spec]),
        )
    if kinds & {"precision", "learning_rate", "again"}:
        yield Step(
            "Take a lower rate where bad numbers come back",
            "The training met NaN or infinity and saved itself. If it does so often, half the rate is safer.",
            case.run(train__learning_rate=f"{case.recipe.train.learning_rate / 2:.2g}"),
        )
    if "disk" in kinds:
        yield Step(
            "Free some disk", "The disk was nearly full.", f"du -sh {shlex.quote(str(case.spec.parent.parent))}/*"
        )


def _wrong_device(case: _Case) -> Iterator[Step]:
    if len(case.night.train.parity) > 1:
        yield Step(
            "See what is wrong with the device",
            "As it was meant it computed other numbers than the CPU, and a safer way was taken: "
            f"{in_words(case.night.train.parity)}.",
            shlex.join(["shoes", "check", "--explain", "--recipe", str(case.spec)]),
        )


def _other_judge(case: _Case) -> Iterator[Step]:
    notes = [f"{judge.name}: {judge.note}" for judge in case.night.evaluation.judges if judge.note]
    if notes:
        yield Step(
            "Fetch the judge that was asked for",
            f"Another one stood in, and its scores can't be compared with other nights' ({'; '.join(notes)}).",
            shlex.join(["shoes", "model", "fetch", "--recipe", str(case.spec)]),
        )


def _forecast_off(case: _Case) -> Iterator[Step]:
    found = case.night.forecast
    if found and max(abs(found.time_error), abs(found.memory_error)) > _OFF:
        yield Step(
            "Measure this machine anew",
            f"The forecast was off by {signed(100 * found.time_error, 0)} % in time and "
            f"{signed(100 * found.memory_error, 0)} % in memory.",
            shlex.join(["shoes", "forecast", "--compare", "--recipe", str(case.spec)]),
        )


def _not_in_mlflow(case: _Case) -> Iterator[Step]:
    if case.night.run_id is None:
        yield Step("Send the run to MLflow", "It could not be reached; the journal keeps everything.", case.run())


def _use_it(case: _Case) -> Iterator[Step]:
    folder, prompt = case.night.train.adapter_dir, "a professional product photo of red casual shoes"
    draw = ["shoes", "generate", "--recipe", str(case.spec)]
    if not case.night.promoted:
        title, why = "Draw with the adapter all the same", "Your own captions say more than a number."
        yield Step(title, why, shlex.join([*draw, "--adapter", str(folder), prompt]))
        return
    yield Step("Draw with the champion", "Pictures of your own captions.", shlex.join([*draw, prompt]))
    yield Step(
        "Export it",
        "For diffusers, PEFT, ComfyUI and AUTOMATIC1111, with a model card; --push OWNER/NAME sends it to the Hub.",
        shlex.join(["shoes", "export", "--recipe", str(case.spec)]),
    )
    evaluating = "; pipeline.unet.eval()" if case.recipe.train.lora_dropout else ""  # diffusers leaves dropout on
    yield Step(
        "Load it in diffusers",
        f"{case.recipe.model.pretrained_model_name_or_path} is its base.",
        f"pipeline.load_lora_weights({str(folder)!r}){evaluating}",
    )
    if uri := case.night.promotion.model_uri:
        yield Step(
            "Load it from MLflow", "As a Python model.", f"mlflow.pyfunc.load_model({uri!r}).predict([{prompt!r}])"
        )


_RULES: tuple[Callable[[_Case], Iterator[Step]], ...] = (
    _memorised,
    _blank,
    _undecided,
    _learned_nothing,
    _unclear,
    _worse,
    _overfits,
    _still_learning,
    _weak_groups,
    _saved_itself,
    _wrong_device,
    _other_judge,
    _forecast_off,
    _not_in_mlflow,
    _use_it,
)
