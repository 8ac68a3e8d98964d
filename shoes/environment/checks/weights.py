"""What is wrong with the content of a model's files, in the person's language."""

from collections.abc import Callable, Mapping

from shoes.language import gettext as _
from shoes.language import ngettext
from shoes.reports import Defect, ModelCheck


def defect_line(found: ModelCheck, defect: Defect) -> str:
    """A defect of a model that is here: the file, how many tensors, and the first of them."""
    assert found.path is not None, "a model that is not here has no content"
    rest = defect.count - len(defect.names)
    names = ", ".join(defect.names)
    if rest:
        names = _("{names} and {rest} more").format(names=names, rest=rest)
    what = _WHATS[defect.kind](defect)
    where = found.path / defect.where
    return f"{where}: {what.format(count=defect.count, total=defect.total, names=names, detail=defect.detail)}"


_WHATS: Mapping[str, Callable[[Defect], str]] = {
    "missing": lambda d: ngettext(
        "{count} of {total} tensors is missing: {names}", "{count} of {total} tensors are missing: {names}", d.count
    ),
    "left over": lambda d: ngettext(
        "{count} tensor that the config has no place for: {names}",
        "{count} tensors that the config has no place for: {names}",
        d.count,
    ),
    "misshapen": lambda d: ngettext(
        "{count} tensor of another shape than the config asks for: {names}",
        "{count} tensors of another shape than the config asks for: {names}",
        d.count,
    ),
    "whole numbers": lambda d: ngettext(
        "{count} tensor of whole numbers, as quantised weights are: {names}",
        "{count} tensors of whole numbers, as quantised weights are: {names}",
        d.count,
    ),
    "not finite": lambda d: ngettext(
        "NaN or infinity in {count} of {total} tensors: {names}",
        "NaN or infinity in {count} of {total} tensors: {names}",
        d.count,
    ),
    "shards": lambda d: ngettext(
        "{count} of {total} shards is missing: {names}", "{count} of {total} shards are missing: {names}", d.count
    ),
    "unreadable": lambda _d: _("can't be used: {detail}"),
    "words": lambda _d: _("the tokenizer can't be used: {detail}"),
}
