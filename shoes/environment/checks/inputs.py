"""What the night works on: the prepared data set and the model's files."""

from pathlib import Path
from typing import TYPE_CHECKING

from shoes.environment.check import Finding, Situation
from shoes.environment.checks.weights import defect_line
from shoes.environment.models import is_here, local_path
from shoes.errors import DataError, ModelError, ProblemsError
from shoes.language import current, ngettext, number
from shoes.language import gettext as _
from shoes.litter import visible
from shoes.model.files import check, inspect
from shoes.model.wanted import Wanted, all_models, is_single_file
from shoes.reports import ModelCheck
from shoes.spec.names import names_weights

if TYPE_CHECKING:
    from shoes.evaluation.units import Units

READ_AT_ONCE = 300_000_000
"""Bytes of weights in which NaN is looked for here, if nobody has looked yet: a fraction of a second."""


def data_set(situation: Situation) -> Finding:
    """The prepared data set: images per split, and every file's bytes against the manifest."""
    folder = situation.settings.locate(situation.recipe.data.dataset_dir)
    is_there = folder.is_dir() and any(visible(folder.iterdir(), folder))
    if situation.moment == "in the flow":
        state = _counts_in_manifest(folder) if is_there else _("not here yet")
        return Finding("INFO", _("{state}; prepare-data verifies every file").format(state=state))
    return _verified_data(situation, folder) if is_there else _missing_data(situation, folder)


def _verified_data(situation: Situation, folder: Path) -> Finding:
    from shoes import dataset
    from shoes.dataset.own_splits import own_split_problems
    from shoes.evaluation.prospects import prospects

    spec = situation.recipe.train
    own = [Path(given).expanduser() for given in (spec.train_data_dir, spec.validation_data_dir) if given]
    fix = _("correct train.train_data_dir and train.validation_data_dir, or leave them out")
    if missing := [str(split) for split in own if not split.is_dir()]:
        return Finding("ERROR", _("there is no such folder: {names}").format(names=", ".join(missing)), fix)
    if problems := own_split_problems(spec):
        return Finding("ERROR", _problems(DataError(problems)), fix)
    try:
        report = dataset.verify(folder, resolution=situation.recipe.train.resolution)
    except DataError as error:
        fix = _("see all with `shoes data verify {folder}`, then restore the files or make the data set again")
        return Finding("ERROR", _problems(error), fix.format(folder=folder))
    counts = ", ".join(f"{split.name} {number(split.num_images, 0)}" for split in report.splits)
    detail = _("{counts} images of {side} px, every file verified\n{folder}")
    told = detail.format(counts=counts, side=report.resolution, folder=folder)
    judged_by = prospects(situation.recipe, folder)
    return Finding("OK", told) if judged_by.are_enough else _without_verdict(told, judged_by)


def _without_verdict(told: str, judged_by: "Units") -> Finding:
    """A data set that can be trained on, but is too small to judge the adapter by."""
    from shoes.evaluation.statistics import LEAST_UNITS

    count = judged_by.count
    if judged_by.unit == "caption":
        few = ngettext(
            "a night will have no verdict: {count} test caption can't speak for the others, {least} are the least",
            "a night will have no verdict: {count} test captions can't speak for the others, {least} are the least",
            count,
        )
        fix = _("add photos, or raise eval.num_images where it leaves test photos out; it trains all the same")
    else:
        few = ngettext(
            "a night will have no verdict: {count} test picture can't tell chance from gain, {least} are the least",
            "a night will have no verdict: {count} test pictures can't tell chance from gain, {least} are the least",
            count,
        )
        fix = _("add photos, or raise eval.images_per_caption; it trains all the same")
    return Finding("WARN", f"{told}\n{few.format(count=count, least=LEAST_UNITS)}", fix)


def _missing_data(situation: Situation, folder: Path) -> Finding:
    source = situation.recipe.data.source
    if source is None:
        detail = _("there is no data set at {folder}, and the recipe names no source to make it from")
        fix = _("make it from a downloaded catalogue: `shoes data import SOURCE` with the same --recipe")
        return Finding("ERROR", detail.format(folder=folder), fix)
    detail = _("not here yet: made from {source} by `shoes data import`, or by the first run")
    return Finding("INFO", detail.format(source=source))


def _counts_in_manifest(folder: Path) -> str:
    from shoes.dataset.manifest import read_manifest

    try:
        counts = read_manifest(folder).counts
    except DataError as error:
        return _problems(error)
    return ", ".join(f"{name} {number(count.images, 0)}" for name, count in counts.items())


def model_files(situation: Situation) -> Finding:
    """The base model and its judges: every file's SHA-256."""
    wanted = all_models(situation.recipe)
    away = [model.name for model in wanted if not is_here(model, situation.settings)]
    if situation.moment == "in the flow":
        state = _("not here yet: {names}").format(names=", ".join(away)) if away else _("here")
        return Finding("INFO", _("{state}; fetch-model verifies every file").format(state=state))
    if missing := _missing_paths(situation):
        fix = _("correct the path, or name a model on the Hub such as owner/name")
        if any(map(names_weights, missing)):
            return Finding("ERROR", _("there is no such file: {names}").format(names=", ".join(missing)), fix)
        return Finding("ERROR", _("there is no such folder: {names}").format(names=", ".join(missing)), fix)
    found = [_checked(model, situation) for model in wanted]
    situation.await_libraries()
    found = [_inspected(one, model, situation) for one, model in zip(found, wanted, strict=True)]
    lines = [_model_line(one) for one in found]
    if any(not isinstance(one, ModelCheck) or (one.path is not None and one.problems) for one in found):
        fix = _("see all with `shoes model verify`; `shoes model fetch` mends what was downloaded")
        return Finding("ERROR", "\n".join(lines), fix)
    return Finding("INFO" if away else "OK", "\n".join(lines))


_Unusable = tuple[str, ProblemsError]
"""A model's name, and why it is none."""


def _checked(wanted: Wanted, situation: Situation) -> ModelCheck | _Unusable:
    """Every file's bytes."""
    try:
        return check(wanted, situation.settings)
    except ModelError as error:
        if not is_single_file(wanted, situation.settings):
            return wanted.name, error
        path = situation.settings.locate(wanted.name)
        return ModelCheck(name=wanted.name, path=path, files=(), problems=_reasons(error))


def _inspected(found: ModelCheck | _Unusable, wanted: Wanted, situation: Situation) -> ModelCheck | _Unusable:
    """The content of the files: what is known of it, and what can be known at once."""
    if not isinstance(found, ModelCheck):
        return found
    try:
        return inspect(found, wanted, situation.settings, most_bytes=READ_AT_ONCE)
    except ModelError as error:
        return wanted.name, error


def _missing_paths(situation: Situation) -> list[str]:
    paths = [local_path(model, situation.settings) for model in all_models(situation.recipe)]
    return [str(path) for path in paths if path is not None and not path.exists()]


def _reasons(error: ModelError) -> tuple[str, ...]:
    return tuple(problem.what for problem in error.problems)


def _model_line(found: ModelCheck | _Unusable) -> str:
    if not isinstance(found, ModelCheck):
        name, error = found
        first = error.problems[0]
        words = f": {first.what} ({first.fix})" if current() == "en" else ""
        return f"{name}: {_problems(error)}{words}"
    if found.path is None or found.path.is_file():
        return _line_without_files(found)
    if found.defects:
        return "\n".join(defect_line(found, defect) for defect in found.defects)
    if found.problems:
        wrong = [file.path for file in found.files if file.status != "OK"]
        if not wrong:
            return _unusable_line(found)
        count = len(found.problems)
        text = ngettext("{name}: {count} problem: {where}", "{name}: {count} problems, the first: {where}", count)
        return text.format(name=found.name, count=count, where=found.path / wrong[0])
    size = number(sum(file.num_bytes for file in found.files) / 1024**2, 0)
    count = len(found.files)
    text = ngettext("{name}: {count} file, {size} MB, verified", "{name}: {count} files, {size} MB, verified", count)
    line = text.format(name=found.name, count=count, size=size)
    return line if found.values_read else line + _("; `shoes model verify` also looks for NaN in the weights")


def _line_without_files(found: ModelCheck) -> str:
    """A model that is on the Hub only, or a single file that was not converted."""
    if found.path is not None:
        return _unusable_line(found)
    if names_weights(found.name):
        text = _("{name} is not converted yet: `shoes model fetch` does it once, or the first run")
        return text.format(name=found.name)
    text = _("{name} is not here yet: downloaded by `shoes model fetch`, or by the first run")
    return text.format(name=found.name)


def _unusable_line(found: ModelCheck) -> str:
    """A model whose files are as they were, and can't be used as they are."""
    reasons = (problem.partition("\n")[0] for problem in found.problems)
    return _("{name} can't be used: {reason}").format(name=found.name, reason="; ".join(reasons))


def _problems(error: ProblemsError) -> str:
    """How many things are wrong, and the first file; the library's own words would be English."""
    count = len(error.problems)
    text = ngettext("{count} problem: {where}", "{count} problems, the first: {where}", count)
    return text.format(count=count, where=error.problems[0].where)
