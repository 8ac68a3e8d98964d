"""What a set of demo assets is worth: measured the same way for the shipped ones and for new ones."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from PIL import Image
from torch import nn

from demo import autoencoder, diffusion, loop
from demo.catalogue import CASUAL_SHOES, Item
from demo.scoring import Scorer
from shoes import storage


@dataclass(frozen=True)
class Effort:
    """How much the measurement may cost."""

    num_lora_steps: int = 200
    num_drawings: int = 96
    num_photos: int = 200
    """Real casual shoes that distances and losses are measured on."""
    guidance_scale: float = 2.0
    """More makes white shoes vanish in their ground."""
    num_inference_steps: int = 15


@dataclass(frozen=True)
class Photos:
    """Real photos with their items."""

    items: list[Item]
    pixels: np.ndarray

    def first(self, number: int) -> "Photos":
        """The first few of them."""
        return Photos(self.items[:number], self.pixels[:number])

    def captions(self) -> list[str]:
        """What the items are called as casual shoes, whatever they are."""
        return [replace(item, article=CASUAL_SHOES).caption() for item in self.items]


@dataclass(frozen=True)
class Evidence:
    """What the measurement looks at; no new network has been trained on the casual shoes among it."""

    casual: Photos
    impostors: Photos
    """Other articles: a judge must not take them for casual shoes of the same colour."""


@dataclass(frozen=True)
class Judgement:
    """What one CLIP says of the drawings."""

    base_score: float
    adapter_score: float
    real_score: float
    """Ceiling: real photos with their own captions."""
    shuffled_score: float
    """Floor: the same photos with each other's captions."""
    impostor_score: float
    """Photos of other articles, called casual shoes of their colour."""
    impostor_auc: float
    """How often a real casual shoe scores above such an impostor: 0.5 is blind, 1 is perfect."""
    base_cmmd: float
    adapter_cmmd: float

    @property
    def adapter_share(self) -> float:
        """The adapter's score on a scale from the impostors' to the real photos', 0 to 1."""
        # A CLIP that sees no difference must not decide by dividing by it.
        scale = max(self.real_score - self.impostor_score, 1.0)
        return (self.adapter_score - self.impostor_score) / scale


@dataclass(frozen=True)
class Measures:
    """All figures of one set of assets."""

    vae_error: float
    """Root mean square error of the VAE's round trip on real casual shoes, 0 to 255."""
    base_loss: float
    """Noise prediction loss on real casual shoes; latents have unit variance in every model."""
    adapter_loss: float
    base_blank: float
    """Share of the base's drawings without a light ground."""
    adapter_blank: float
    judgements: dict[str, Judgement]

    def save(self, path: Path) -> None:
        """Write the figures as JSON."""
        storage.write_text(path, json.dumps(asdict(self), indent=2) + "\n")


def load(path: Path) -> Measures:
    """Figures that were saved."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values["judgements"] = {name: Judgement(**value) for name, value in values["judgements"].items()}
    return Measures(**values)


def measure(
    model: Path,
    data_set: Path,
    judges: dict[str, Scorer],
    evidence: Evidence,
    *,
    effort: Effort,
    device: str,
) -> Measures:
    """Train an adapter on the data set's training split, and compare base and adapter on real captions."""
    pipeline = diffusion.load_pipeline(model, device)
    evidence = Evidence(evidence.casual.first(effort.num_photos), evidence.impostors.first(effort.num_photos))
    captions = evidence.casual.captions()
    prompts = [captions[i % len(captions)] for i in range(effort.num_drawings)]
    real = diffusion.cache(pipeline, evidence.casual.items, evidence.casual.pixels, 1)
    sampling = {"guidance_scale": effort.guidance_scale, "num_inference_steps": effort.num_inference_steps}
    base_loss = diffusion.held_out_loss(pipeline.unet, real)
    base = diffusion.draw(pipeline, prompts, seed=4242, **sampling)
    train_adapter(pipeline, data_set / "train", effort.num_lora_steps)
    adapter = diffusion.draw(pipeline, prompts, seed=4242, **sampling)
    return Measures(
        vae_error=autoencoder.reconstruction_error(pipeline.vae, evidence.casual.pixels),
        base_loss=base_loss,
        adapter_loss=diffusion.held_out_loss(pipeline.unet, real),
        base_blank=share_blank(base),
        adapter_blank=share_blank(adapter),
        judgements={name: judge(scorer, prompts, base, adapter, evidence) for name, scorer in judges.items()},
    )


def train_adapter(pipeline: StableDiffusionPipeline, split: Path, num_steps: int) -> None:
    """A LoRA as the demo trains one, left in the pipeline."""
    unet = pipeline.unet
    data = read_split(pipeline, split)
    unet.requires_grad_(False)
    torch.manual_seed(0)
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=targets))
    with TemporaryDirectory() as folder:
        training = loop.Training(
            "adapter", {"unet": unet}, num_steps, 2e-3, Path(folder), warmup_steps=20, log_every=50
        )
        loop.train(training, diffusion.step_loss(unet, data, batch_size=16, seed=9, other_captions=0.0))


def read_split(pipeline: StableDiffusionPipeline, split: Path) -> diffusion.CachedData:
    """Latents and text of a data set's split."""
    entries = json.loads((split / "captions.json").read_text(encoding="utf-8"))
    photos = np.stack([np.asarray(Image.open(split / "images" / entry["image_file"])) for entry in entries])
    captions = sorted({entry["caption"] for entry in entries})
    index = [captions.index(entry["caption"]) for entry in entries]
    return diffusion.CachedData(
        latents=diffusion.encode_photos(pipeline.vae, photos)[None],
        captions=diffusion.encode_captions(pipeline.text_encoder, pipeline.tokenizer, [*captions, ""]),
        # There is one template; the second row is never chosen, but a choice must be there.
        caption_of=torch.tensor([index, index]),
    )


def share_blank(images: np.ndarray) -> float:
    """Share of images that have no light ground, or nothing on it."""
    grey = images.mean(-1)
    border = np.stack([grey[:, 0].mean(-1), grey[:, -1].mean(-1)])
    return float(np.mean((border.min(0) < 220) | (grey.std((1, 2)) < 8)))


def judge(scorer: Scorer, prompts: list[str], base: np.ndarray, adapter: np.ndarray, evidence: Evidence) -> Judgement:
    """One CLIP's opinion of the drawings, and how far it can be trusted."""
    photos, captions = evidence.casual.pixels, evidence.casual.captions()
    embedded = scorer.images(photos)
    real = scorer.scores(photos, captions)
    impostors = scorer.scores(evidence.impostors.pixels, evidence.impostors.captions())
    return Judgement(
        base_score=float(scorer.scores(base, prompts).mean()),
        adapter_score=float(scorer.scores(adapter, prompts).mean()),
        real_score=float(real.mean()),
        shuffled_score=float(scorer.scores(photos, captions[::-1]).mean()),
        impostor_score=float(impostors.mean()),
        impostor_auc=float(np.mean(real[:, None] > impostors[None, :])),
        base_cmmd=cmmd(scorer.images(base), embedded),
        adapter_cmmd=cmmd(scorer.images(adapter), embedded),
    )


def cmmd(x: torch.Tensor, y: torch.Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of unit embeddings × 1000, as in Jayasumana et al. 2024."""

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.exp(-(torch.cdist(a.double(), b.double()) ** 2) / 200)

    def within(a: torch.Tensor) -> torch.Tensor:
        return (kernel(a, a).sum() - len(a)) / (len(a) * (len(a) - 1))

    return float(1000 * (within(x) + within(y) - 2 * kernel(x, y).mean()))


def parameters_in(network: nn.Module) -> int:
    """How many numbers a network has."""
    return sum(parameter.numel() for parameter in network.parameters())
