from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from shoes.errors import ModelError
from shoes.evaluation.clip import ClipScorer, load_clip

ROOT = Path(__file__).resolve().parents[2]
CAPTIONS = ["red shoes", "a professional product photo of black casual shoes, fall collection, men"]


@pytest.fixture
def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 255, (5, 80, 64, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def test_cosines_are_those_of_the_whole_model_of_transformers(
    clip: ClipScorer, clip_path: Path, pictures: list[Image.Image]
) -> None:
    model = CLIPModel.from_pretrained(clip_path, local_files_only=True).eval()
    tokens = AutoTokenizer.from_pretrained(clip_path)(CAPTIONS, padding=True, return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(clip_path)(images=pictures, return_tensors="pt")
    with torch.inference_mode():
        output = model(**tokens, pixel_values=pixels["pixel_values"])
        reference = (output.logits_per_image / model.logit_scale.exp()).numpy()
    cosines = clip.embed_images(pictures, batch_size=2) @ clip.embed_captions(CAPTIONS, batch_size=1).T
    assert cosines.dtype == np.float32
    np.testing.assert_allclose(cosines, reference, atol=1e-4)
    assert np.abs(reference[:, 0] - reference[:, 1]).max() > 1e-2, "the two captions must be told apart"


def test_a_hundred_photos_and_captions_score_as_a_plain_reference_says(clip: ClipScorer, clip_path: Path) -> None:
    """The demo's photos with captions of all lengths, image by image, without any of our code: 100 × max(cos, 0)."""
    from shoes.dataset import load_split
    from shoes.evaluation.statistics import clip_score

    records = load_split(ROOT / "data/demo/casual_shoes/train", decode=False)[:100]
    captions = [f"{record.caption} {'on the street ' * (number % 40)}" for number, record in enumerate(records)]
    model = CLIPModel.from_pretrained(clip_path, local_files_only=True).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(clip_path), CLIPImageProcessorPil.from_pretrained(clip_path)
    places = model.config.text_config.max_position_embeddings
    reference, lengths = [], []
    with torch.inference_mode():
        for record, caption in zip(records, captions, strict=True):
            tokens = tokenizer(caption, truncation=True, max_length=places, return_tensors="pt")
            lengths.append(len(tokenizer(caption)["input_ids"]))
            pixels = processor(images=Image.open(record.image).convert("RGB"), return_tensors="pt")
            output = model(**tokens, **pixels)
            reference.append(float(torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)[0]))
    assert max(lengths) > places > min(lengths)
    images = clip.embed_images((Image.open(record.image).convert("RGB") for record in records), batch_size=7)
    cosines = (images * clip.embed_captions(captions, batch_size=9)).sum(1)
    np.testing.assert_allclose(cosines, reference, atol=1e-4)
    assert clip_score(cosines) == pytest.approx(100 * np.maximum(reference, 0).mean(), abs=1e-2)


def test_vectors_have_length_one(clip: ClipScorer, pictures: list[Image.Image]) -> None:
    for vectors in (clip.embed_images(pictures), clip.embed_captions(CAPTIONS)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_long_caption_is_cut_with_its_end_token_kept(clip: ClipScorer, clip_path: Path) -> None:
    """As if the caption had ended there: only with the end token does CLIP read it the same."""
    tokenizer = AutoTokenizer.from_pretrained(clip_path)
    places = clip.model.config.text_config.max_position_embeddings
    long = "shoes " * 200
    fits = tokenizer.decode(tokenizer(long, truncation=True, max_length=places)["input_ids"], skip_special_tokens=True)
    assert len(tokenizer(fits)["input_ids"]) == places
    cut, whole = clip.embed_captions([long, fits])
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_nothing_gives_an_empty_table(clip: ClipScorer) -> None:
    assert clip.embed_images([]).shape == (0, clip.model.config.projection_dim)


def test_pickled_weights_are_refused(clip_path: Path, tmp_path: Path) -> None:
    for file in clip_path.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_clip(tmp_path, "cpu")


def test_a_missing_folder_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="fix: give a folder with"):
        load_clip(tmp_path / "none", "cpu")
