"""`shoes export`: an adapter in every form in which people use it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoes.cli.command import Outcome, RecipeCommand, run_with_recipe

if TYPE_CHECKING:
    from shoes.exports import Wishes
    from shoes.publishing.reports import ExportReport
    from shoes.spec import Recipe


@click.command(cls=RecipeCommand)
@click.option("--champion", is_flag=True, help="Export the registered model's champion, not the recipe's own training.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write. [data/exports/RECIPE-ADAPTER]")
@click.option("--merged", is_flag=True, help="Also write the base with the adapter in its weights, in fp16.")
@click.option("--push", metavar="OWNER/NAME", help="Also push the folder to a model repository on the Hub.")
@click.option("--private/--public", default=None, help="Who sees the repository, when --push makes it. [private]")
@click.pass_context
def export(  # noqa: PLR0913, PLR0917 - one parameter per option
    context: click.Context,
    champion: bool,
    out: Path | None,
    merged: bool,
    push: str | None,
    private: bool | None,
    recipe: str,
    as_json: bool,
) -> None:
    """Write a trained adapter's folder: for diffusers, PEFT, ComfyUI and AUTOMATIC1111, with a model card.

    An earlier export in the folder is replaced as a whole, unless files in it were added or changed since. --merged
    draws with the merged pipeline and with the adapter, and compares the pictures. For --push set HF_TOKEN; for a
    mirror HF_ENDPOINT. Pushing again what is there already makes no commit.
    """
    from shoes.exports import Wishes

    wishes = Wishes(champion=champion, out=out, merged=merged, push=push, private=private)
    run_with_recipe(context, recipe, as_json, lambda loaded: _export(loaded, wishes))


def _export(recipe: "Recipe", wishes: "Wishes") -> Outcome:
    from shoes.exports import export_adapter

    report = export_adapter(recipe, wishes)
    return Outcome(_text(report), report.model_dump(mode="json"))


def _text(report: "ExportReport") -> str:
    from shoes.progress import size

    whose = f"the champion, version {report.version}" if report.version else f"the training of {report.recipe}"
    scored = "" if report.is_evaluated else ", without scores: `shoes evaluate` makes them"
    lines = [
        f"Exported {whose}: {len(report.files)} files, {size(report.num_bytes)}",
        f"  {report.path}",
        f"  diffusers        pipeline.load_lora_weights({str(report.path)!r})",
        "  PEFT             peft/",
        "  ComfyUI, A1111   kohya/adapter.safetensors",
        f"  model card       README.md{scored}",
    ]
    if report.merged:
        lines.append(
            f"  merged           merged/, {size(report.merged.num_bytes)}; its picture differs from the adapter's by "
            f"{report.merged.difference:.2f} grey levels of 255 (rounding to fp16: {report.merged.tolerance:.2f})"
        )
    if report.push:
        done = "pushed" if report.push.is_changed else "unchanged on the Hub"
        seen = "private" if report.push.is_private else "public"
        lines += [f"  {done:<17}{report.push.url} ({seen}), commit {report.push.commit[:12]}"]
        lines += [f"  note: {note}" for note in report.push.notes]
    return "\n".join(lines)
