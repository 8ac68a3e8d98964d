"""CLIP, twice: one seed's text encoder goes into the Stable Diffusion, another seed's model judges it."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTextModel,
    CLIPTokenizer,
)

from demo import loop
from demo.catalogue import TEMPLATES, Item
from demo.diffusion import moved, to_pixels
from demo.tokenizer import MAX_TOKENS

TEXT = {
    "hidden_size": 160,
    "intermediate_size": 320,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_TOKENS,
    "projection_dim": 96,
}
VISION = {
    "hidden_size": 160,
    "intermediate_size": 320,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "patch_size": 8,
    "projection_dim": 96,
}


def new_clip(tokenizer: CLIPTokenizer, resolution: int, seed: int) -> CLIPModel:
    """An untrained CLIP."""
    tokens = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = VISION | {"image_size": resolution}
    torch.manual_seed(seed)
    return CLIPModel(CLIPConfig(text_config=TEXT | tokens, vision_config=vision, projection_dim=96))


def step_loss(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    items: list[Item],
    photos: np.ndarray,
    *,
    batch_size: int,
    seed: int,
) -> loop.StepLoss:
    """Contrastive loss of a step between photos and their captions."""
    variants = np.stack(moved(photos, 4, seed))
    captions = sorted({item.caption(template) for item in items for template in TEMPLATES})
    index = {caption: number for number, caption in enumerate(captions)}
    caption_of = torch.tensor([[index[item.caption(t)] for item in items] for t in TEMPLATES])
    by_colour = _rows_by_colour(items)
    encoded = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids

    def loss(step: int) -> torch.Tensor:
        random = loop.generator(seed, step)
        photo = _half_of_one_colour(loop.choose(random, batch_size, len(items)), by_colour, random)
        variant = loop.choose(random, batch_size, len(variants))
        # The usual template half of the time: its words are the ones that the scores are about.
        other = torch.rand(batch_size, generator=random) < 0.5
        template = other * (1 + loop.choose(random, batch_size, len(TEMPLATES) - 1))
        caption = caption_of[template, photo]
        # Captions repeat, and a short one fits many photos: all that a caption is true of are right.
        is_true = caption_of[template[None, :], photo[:, None]] == caption[None, :]
        output = clip(
            input_ids=encoded[caption].to(clip.device),
            pixel_values=to_pixels(variants[variant.numpy(), photo.numpy()]).to(clip.device),
        )
        return contrastive_loss(output.logits_per_image, is_true.float().to(clip.device))

    return loss


def _rows_by_colour(items: list[Item]) -> list[torch.Tensor]:
    """For each photo the rows of all photos of its colour."""
    rows = {
        colour: torch.tensor([row for row, item in enumerate(items) if item.colour == colour])
        for colour in {item.colour for item in items}
    }
    return [rows[item.colour] for item in items]


def _half_of_one_colour(photo: torch.Tensor, by_colour: list[torch.Tensor], random: torch.Generator) -> torch.Tensor:
    """The photos, half of them replaced by photos of the first one's colour.

    Among random photos colour alone finds the caption mostly, and CLIP would stop there: a black box would
    pass for a black shoe.
    """
    same = by_colour[int(photo[0])]
    half = len(photo) // 2
    return torch.cat([photo[:half], same[loop.choose(random, len(photo) - half, len(same))]])


def contrastive_loss(logits_per_image: torch.Tensor, is_true: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric cross entropy; the right answers of a row or column share its probability."""
    by_image = F.cross_entropy(logits_per_image, is_true / is_true.sum(1, keepdim=True))
    by_caption = F.cross_entropy(logits_per_image.T, is_true.T / is_true.sum(0)[:, None])
    return (by_image + by_caption) / 2


def save_text_encoder(clip: CLIPModel, target: Path) -> None:
    """The text half, as Stable Diffusion uses it."""
    encoder = CLIPTextModel(clip.config.text_config)
    state = {name: value for name, value in clip.text_model.state_dict().items() if "position_ids" not in name}
    prefix = "text_model." if any(n.startswith("text_model.") for n in encoder.state_dict()) else ""
    encoder.load_state_dict({prefix + name: value for name, value in state.items()})
    encoder.save_pretrained(target)


def save_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, resolution: int, target: Path) -> None:
    """The whole model with its processor, ready to score images."""
    half = [0.5, 0.5, 0.5]
    side = {"height": resolution, "width": resolution}
    images = CLIPImageProcessorPil(size={"shortest_edge": resolution}, crop_size=side, image_mean=half, image_std=half)
    clip.save_pretrained(target)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(target)
