"""What is printed about pictures that were drawn."""

from shoes.device import precision_name
from shoes.generation.folder import DrawnPicture
from shoes.generation.formats import AdapterFile
from shoes.generation.metadata import AdapterRecipe
from shoes.generation.remake import RemakeReport
from shoes.generation.run import GenerationReport
from shoes.progress import duration


def generated(report: GenerationReport) -> str:
    """How many pictures, made with what, which of them show nothing, and where they are."""
    plan, how = report.plan, report.plan.sampling
    lines = [
        _count(report),
        f"  model    {plan.base.name}",
        f"  adapter  {_adapters(plan.adapters)}",
        f"  on {plan.device} in {precision_name(plan.precision)}, {how.resolution} px, {how.num_inference_steps} steps "
        f"({how.scheduler}), guidance {how.guidance_scale:g}",
    ]
    blocks = ["\n".join(lines)]
    if again := [one for one in report.pictures if one.precision != plan.precision and one.verdict == "OK"]:
        blocks.append(f"In fp32, because {precision_name(plan.precision)} gave nothing to see: {_names(again)}")
    if bad := [one for one in report.pictures if one.verdict != "OK"]:
        marks = {"blank": "[BLANK]", "NaN": "[NaN]  "}
        told = "\n".join(f"  {marks[one.verdict]} {one.file}" for one in bad)
        blocks.append(
            f"{told}\nNot good: these show nothing, even in fp32. Verify the files with `shoes model verify`, and try "
            "another adapter or seed, or --train.device cpu; the same command draws them again."
        )
    blocks.append(f"Contact sheet: {report.sheet}\nPictures: {report.path}")
    return "\n\n".join(blocks)


def _count(report: GenerationReport) -> str:
    total, drawn = len(report.pictures), report.num_drawn
    noun = "picture" if total == 1 else "pictures"
    if not drawn:
        return f"{total} {noun}, all of them there already"
    there = f", {total - drawn} were there" if drawn < total else ""
    return f"{total} {noun}: {drawn} drawn now in {duration(report.seconds)}{there}"


def _adapters(adapters: "tuple[AdapterFile, ...] | tuple[AdapterRecipe, ...]") -> str:
    return ", ".join(f"{one.name} (weight {one.weight:g})" for one in adapters) or "none: the base model alone"


def _names(pictures: "list[DrawnPicture]") -> str:
    names = [one.file for one in pictures]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def remade(report: RemakeReport) -> str:
    """Whether it is the same picture, and what is not as it was."""
    recipe = report.recipe
    if report.largest_difference == 0:
        verdict = "The same picture, pixel for pixel."
    elif report.same_device:
        verdict = f"Not the same picture: pixels differ by up to {report.largest_difference} of 255."
    else:
        verdict = f"Pixels differ by up to {report.largest_difference} of 255."
    lines = [
        verdict,
        f"  prompt   {recipe.prompt}",
        f"  seed     {recipe.seed}",
        f"  model    {recipe.base.name}",
        f"  adapter  {_adapters(recipe.adapters)}",
        *(f"  note: {note}" for note in report.notes),
    ]
    if not report.is_good and not report.notes:
        lines.append("  The picture was changed after it was drawn, or another processor or number of threads drew it.")
    return "\n".join([*lines, "", f"Picture: {report.path}"])
