"""Do the statistics of the evaluation tell the truth? Simulations in which the truth is known.

    python benchmarks/evaluation_truth.py [--trials 1000] [--quick]

Intervals: how often the 95 % interval holds the true difference, with 128 captions of 4 images and with the captions
of the catalogue's 90 test photos (41 different ones, one of them 13 times) of 2, for normal and for skewed
differences between captions; how often models that differ by their seeds alone look like an improvement; how often
an improvement of one CLIP point is found with the sample that `plan` asks for. CMMD: its mean where the truth is 0,
with the biased form beside it, and its standard error beside the spread. Memorisation: how often the alarm fires for
nothing, and with 5 % planted copies, on unit vectors and on the demo's photos with the demo's CLIP. Prints all of it,
then one JSON line.
"""

import argparse
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from shoes.evaluation.distances import Estimate, cmmd, cmmd_difference
from shoes.evaluation.memorisation import Alarm, alarm, nearest
from shoes.evaluation.sample_size import BETWEEN, WITHIN, SampleSize, half_width_of, plan
from shoes.evaluation.statistics import Floats, cluster_interval, expanded_level

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
TEST_CAPTIONS = [13, 9, 7, 6, 5, 4, 4, 3, *[2] * 6, *[1] * 27]
"""How often each caption occurs among the catalogue's 90 test photos."""
DESIGNS = {"128 captions x 4": ([1] * 128, 4), "catalogue's 90 photos x 2": (TEST_CAPTIONS, 2)}
FEW = (3, 4, 5, 6, 8, 12)
"""Captions of the smallest test splits."""
WIDTH = 64
Rng = np.random.Generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="60 trials")
    options = parser.parse_args()
    trials = 60 if options.quick else options.trials
    found: dict[str, object] = {"benchmark": "evaluation_truth", "trials": trials}
    for name, part in (("intervals", intervals), ("power", power), ("cmmd", distances), ("memorisation", copies)):
        found[name] = {}
        for line, figures in part(trials):
            print(f"{name}: {line}: {', '.join(f'{key} {value}' for key, value in figures.items())}", flush=True)
            found[name][line] = figures  # type: ignore[index]
    print(json.dumps(found))


def intervals(trials: int) -> Iterator[tuple[str, dict[str, float]]]:
    for design, (sizes, repeat) in DESIGNS.items():
        for shape in EFFECTS:
            yield f"{design}, {shape}", interval_figures(sizes, repeat, shape=shape, trials=trials)
        yield f"{design}, seeds only", interval_figures(sizes, repeat, between=0, within=2 * WITHIN, trials=trials)
    for num in FEW:
        for shape in EFFECTS:
            figures = interval_figures([1] * num, 2, shape=shape, trials=trials)
            yield f"{num} captions x 2, {shape}", {**figures, **bootstrap_figures(num, 2, shape=shape, trials=trials)}


def power(trials: int) -> Iterator[tuple[str, dict[str, float]]]:
    """One CLIP point, at the sample for ±0.7 and ±0.65 of different captions, and the best of the catalogue's own."""
    catalogue, different = TEST_CAPTIONS, [1] * 427
    for name, sizes, wanted in (("different", different, 0.7), ("different", different, 0.65), ("own", catalogue, 0.7)):
        size = plan(caption_names(sizes), wanted)
        chosen = chosen_sizes(sizes, size)
        figures = interval_figures(chosen, size.images_per_caption, truth=1.0, trials=trials)
        yield f"{name} captions: {size.num_images} photos x {size.images_per_caption}, +-{size.half_width:.2f}", figures


def distances(trials: int) -> Iterator[tuple[str, dict[str, float]]]:
    yield "32 against 32 of one distribution", null_figures(32, trials)
    for name, world in WORLDS.items():
        yield name, error_figures(world, max(60, trials // 2))


def copies(trials: int) -> Iterator[tuple[str, dict[str, float]]]:
    for name, scene in SCENES.items():
        yield name, alarm_figures(scene, trials)
        yield f"{name}, 5 % planted", alarm_figures(scene, 20, planted=0.05)
    yield from demo_figures(20).items()


# Differences in CLIP points, whose mean is known.

EFFECTS: dict[str, Callable[[Rng, int], Floats]] = {
    "normal": lambda rng, num: rng.normal(size=num),
    "skewed upward": lambda rng, num: rng.exponential(size=num) - 1,
    "skewed downward": lambda rng, num: 1 - rng.exponential(size=num),
}


def interval_figures(  # noqa: PLR0913
    sizes: list[int],
    repeat: int,
    *,
    shape: str = "normal",
    truth: float = 0.0,
    between: float = BETWEEN,
    within: float = WITHIN,
    trials: int,
    num_resamples: int = 2000,
) -> dict[str, float]:
    """Share of the 95 % intervals that hold the truth and that lie above 0, and half their width."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(len(sizes)), np.array(sizes) * repeat)
    names = [f"caption {c}" for c in clusters]
    rows = []
    for trial in range(trials):
        effects = truth + np.sqrt(between) * EFFECTS[shape](rng, len(sizes))
        values = effects[clusters] + np.sqrt(within) * rng.normal(size=len(clusters))
        found = cluster_interval(values, names, level=0.95, num_resamples=num_resamples, seed=trial)
        assert found is not None, "three captions at least"
        rows.append((found.low <= truth <= found.high, found.low > 0, (found.high - found.low) / 2))
    covered, above, half_width = np.mean(rows, axis=0)
    planned = half_width_of(names, 1, between=between, within=within)
    return rounded(covered=covered, above_0=above, half_width=half_width, planned=planned)


def bootstrap_figures(num: int, repeat: int, *, shape: str, trials: int) -> dict[str, float]:
    """How often a BCa bootstrap of so few captions would hold the truth: why there is another interval below six."""
    from scipy.stats import bootstrap

    rng = np.random.default_rng(1)
    covered = []
    for trial in range(trials):
        means = np.sqrt(BETWEEN) * EFFECTS[shape](rng, num) + np.sqrt(WITHIN / repeat) * rng.normal(size=num)
        level = expanded_level(0.95, np.full(num, repeat))
        options = {"n_resamples": 2000, "confidence_level": min(level, 0.999), "method": "BCa"}
        found = bootstrap((means,), np.mean, rng=np.random.default_rng(trial), **options).confidence_interval
        covered.append(found.low <= 0 <= found.high)
    return rounded(a_bootstrap_covers=float(np.mean(covered)))


def caption_names(sizes: list[int]) -> list[str]:
    return [f"caption {i:04}" for i, size in enumerate(sizes) for _ in range(size)]


def chosen_sizes(sizes: list[int], size: SampleSize) -> list[int]:
    """How often each caption occurs among the photos that a plan takes; they are even over the sorted captions."""
    captions = caption_names(sizes)
    taken = [captions[(2 * k + 1) * len(captions) // (2 * size.num_images)] for k in range(size.num_images)]
    return [taken.count(caption) for caption in sorted(set(taken))]


# Unit vectors around those of their captions.

World = Callable[[Rng], tuple[Floats, Floats, list[str], list[str]]]


def units(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def cloud(rng: Rng, centres: Floats, members: np.ndarray, shift: float = 0.0) -> Floats:
    """Vectors of captions, as near to each other as CLIP's of one kind of product: cosines around 0.7."""
    mean = np.zeros(WIDTH)
    mean[:2] = 6, shift
    return units(mean + centres[members] + 0.4 * rng.normal(size=(len(members), WIDTH)))


def captioned(num: int, repeat: int, *, shift: float, apart: float = 0.4, is_shared: bool = True) -> World:
    """`num` captions with `repeat` pictures each, and as many photos: of the same captions, or of others."""

    def draw(rng: Rng) -> tuple[Floats, Floats, list[str], list[str]]:
        centres = apart * rng.normal(size=(2 * num, WIDTH))
        pictures, photos = np.repeat(np.arange(num), repeat), np.arange(num) + (0 if is_shared else num)
        x, y = cloud(rng, centres, pictures, shift), cloud(rng, centres, photos)
        return x, y, [f"{c}" for c in pictures], [f"{c}" for c in photos]

    return draw


WORLDS = {
    "same captions, truth 0": captioned(64, 2, shift=0.0),
    "same captions, shifted": captioned(64, 2, shift=1.5),
    "same captions far apart, shifted": captioned(64, 2, shift=1.5, apart=1.0),
    "other captions far apart, shifted": captioned(64, 2, shift=1.5, apart=1.0, is_shared=False),
}


def null_figures(num: int, trials: int) -> dict[str, float]:
    """Mean and standard error of the mean of CMMD, unbiased and biased, of samples of one distribution."""
    rng = np.random.default_rng(2)
    names = [f"{i}" for i in range(num)]
    rows = []
    for _ in range(trials):
        x, y = (cloud(rng, np.zeros((1, WIDTH)), np.zeros(num, dtype=int)) for _ in range(2))
        rows.append((cmmd(x, y, names).value, biased(x, y)))
    mean, error = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / np.sqrt(trials)
    return rounded(unbiased=mean[0], its_error=error[0], biased=mean[1], biased_error=error[1])


def biased(x: Floats, y: Floats) -> float:
    """CMMD as it was published: each image is also compared with itself."""

    def mean_kernel(a: Floats, b: Floats) -> float:
        return float(np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=2) / 200).mean())

    return 1000 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


def error_figures(world: World, trials: int) -> dict[str, float]:
    """Standard errors beside the spread over simulations, captions of the photos known and not."""
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(trials):
        x, y, of_x, of_y = world(rng)
        other = units(x + 0.05 * rng.normal(size=x.shape) + 0.05 * np.eye(WIDTH)[2])
        known = cmmd(x, y, of_x, real_clusters=of_y), cmmd_difference(other, x, y, of_x, real_clusters=of_y)
        rows.append((*known, cmmd(x, y, of_x), cmmd_difference(other, x, y, of_x)))
    names = ("", "difference_", "photos_given_", "photos_given_difference_")
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return {name + key: value for name, found in columns for key, value in spread(found).items()}


def spread(estimates: tuple[Estimate, ...]) -> dict[str, float]:
    """Mean of the estimates with its error, and their root-mean-square standard error over their deviation."""
    values = np.array([found.value for found in estimates])
    squares = np.array([found.standard_error**2 for found in estimates])
    deviation = values.std(ddof=1)
    return rounded(
        mean=values.mean(), error_of_mean=deviation / np.sqrt(len(values)), ratio=np.sqrt(squares.mean()) / deviation
    )


# Training photos, pictures and held-out photos that know nothing of each other, or copies among the pictures.

Scene = Callable[[Rng], tuple[Floats, Floats, Floats, list[str], list[str]]]


def scene(sizes: list[int], repeat: int, held_out: list[int], *, own: float = 0.0) -> Scene:
    """Training, pictures, held-out, and the captions of the last two.

    Args:
        sizes: photos of each caption, `repeat` pictures for each.
        repeat: pictures for a photo.
        held_out: held-out photos of each caption.
        own: how far the model's idea of a caption is from what its photos show: pictures of one are alike.
    """

    def draw(rng: Rng) -> tuple[Floats, Floats, Floats, list[str], list[str]]:
        centres = 0.4 * rng.normal(size=(len(sizes), WIDTH))
        ideas = np.sqrt(0.16 - own**2) / 0.4 * centres + own * rng.normal(size=centres.shape)
        pictures = np.repeat(np.arange(len(sizes)), np.array(sizes) * repeat)
        photos = np.repeat(np.arange(len(sizes)), held_out)
        training = cloud(rng, centres, rng.integers(0, len(sizes), 420))
        x, y = cloud(rng, ideas, pictures), cloud(rng, centres, photos)
        return training, x, y, [f"{c}" for c in pictures], [f"{c}" for c in photos]

    return draw


def strangers(num: int, repeat: int) -> Scene:
    """Captions all around one centre; pictures of one caption are alike, each held-out photo is on its own."""

    def draw(rng: Rng) -> tuple[Floats, Floats, Floats, list[str], list[str]]:
        centres = 0.4 * rng.normal(size=(num + num * repeat, WIDTH))
        pictures, photos = np.repeat(np.arange(num), repeat), num + np.arange(num * repeat)
        training = cloud(rng, 0.4 * rng.normal(size=(420, WIDTH)), np.arange(420))
        x, y = cloud(rng, centres, pictures), cloud(rng, centres, photos)
        return training, x, y, [f"{c}" for c in pictures], [f"{c}" for c in photos]

    return draw


SCENES = {
    "400 pictures, 400 photos": strangers(400, 1),
    "100 captions x 4, 400 photos": strangers(100, 4),
    "25 captions x 16, 400 photos": strangers(25, 16),
    "catalogue's captions, 360 pictures and photos": scene(TEST_CAPTIONS, 4, [4 * size for size in TEST_CAPTIONS]),
}


def alarm_figures(of: Scene, trials: int, planted: float = 0.0) -> dict[str, float]:
    """Share of the trials in which the alarm fires, for whichever reason, and without knowing the captions."""
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(trials):
        training, drawn, held_out, of_drawn, of_held_out = of(rng)
        num = round(planted * len(drawn))
        places = rng.choice(len(drawn), num, replace=False)
        drawn[places] = units(training[rng.choice(len(training), num)] + 0.02 * rng.normal(size=(num, WIDTH)))
        ours, theirs = nearest(drawn, training)[1], nearest(held_out, training)[1]
        found = alarm(ours, theirs, drawn_clusters=of_drawn, held_out_clusters=of_held_out)
        rows.append((*reasons(found), alarm(ours, theirs).fires))
    fires, by_z, by_tail, blind = np.mean(rows, axis=0)
    return rounded(fires=fires, by_z=by_z, by_tail=by_tail, fires_without_captions=blind)


def reasons(found: Alarm) -> tuple[bool, bool, bool]:
    return found.fires, found.z > 3, found.p_tail < 0.001


def demo_figures(trials: int) -> dict[str, dict[str, float]]:
    """The demo's photos under its CLIP, as they are and with 5 % copies among the drawn.

    Training is a third of the photos; three variants of each other photo stand for the drawn and the held-out ones.
    """
    from shoes.evaluation.clip import load_clip

    clip = load_clip(DEMO / "clip", "cpu")
    photos = [Image.open(path).convert("RGB") for path in sorted((DEMO / "casual_shoes").glob("*/images/*"))]
    changes = (mirrored, cropped, brighter, unchanged, re_encoded)
    *variants, originals, copied = (clip.embed_images(map(change, photos), batch_size=64) for change in changes)
    rows: dict[str, list[tuple[bool, bool, bool]]] = {"demo's photos": [], "demo's photos, 5 % planted": []}
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        training, ours, theirs = np.split(rng.permutation(len(photos)), [len(photos) // 3, 2 * len(photos) // 3])
        drawn, held_out = (np.concatenate([variant[side] for variant in variants]) for side in (ours, theirs))
        names = [[f"{i}" for i in side] * len(variants) for side in (ours, theirs)]
        for found, share in zip(rows.values(), (0.0, 0.05), strict=True):
            num = round(share * len(drawn))
            drawn[rng.choice(len(drawn), num, replace=False)] = copied[rng.choice(training, num)]
            near = [nearest(sample, originals[training])[1] for sample in (drawn, held_out)]
            found.append(reasons(alarm(*near, drawn_clusters=names[0], held_out_clusters=names[1])))
    columns = ("fires", "by_z", "by_tail")
    return {name: rounded(**dict(zip(columns, np.mean(found, axis=0), strict=True))) for name, found in rows.items()}


def unchanged(photo: Image.Image) -> Image.Image:
    return photo


def mirrored(photo: Image.Image) -> Image.Image:
    return ImageOps.mirror(photo)


def cropped(photo: Image.Image) -> Image.Image:
    width, height = photo.size
    return photo.crop((2, 2, width - 1, height - 3)).resize((width, height))


def brighter(photo: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(photo).enhance(1.08)


def re_encoded(photo: Image.Image) -> Image.Image:
    """Made smaller, saved as JPEG, and made as large as it was."""
    buffer = io.BytesIO()
    photo.resize((photo.width * 3 // 4, photo.height * 3 // 4)).save(buffer, "JPEG", quality=85)
    return Image.open(buffer).convert("RGB").resize(photo.size)


def rounded(**figures: float) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in figures.items()}


if __name__ == "__main__":
    main()
