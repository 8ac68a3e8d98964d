"""Fewer bits than fp32's are seen where a GPU is allowed them, and never used by what others are compared with."""

from collections.abc import Iterator

import pytest
import torch
from torch.backends import cuda, cudnn, mkldnn

from shoes.device.tf32 import computes_in_tf32, in_full_fp32


@pytest.fixture
def settings() -> Iterator[None]:
    """What PyTorch is set to, set back behind the test."""
    parts = (cudnn.conv, cudnn.rnn, cuda.matmul, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    before = [part.fp32_precision for part in parts]
    yield
    torch.set_float32_matmul_precision("highest")
    for part, precision in zip(parts, before, strict=True):
        part.fp32_precision = precision


def test_a_gpu_that_may_round_is_known_however_it_was_allowed_to(settings: None) -> None:
    assert computes_in_tf32("cuda"), "PyTorch's default: convolutions may"
    cudnn.conv.fp32_precision = "ieee"
    assert not computes_in_tf32("cuda")
    cuda.matmul.fp32_precision = "tf32"
    assert computes_in_tf32("cuda")
    assert not computes_in_tf32("mps")
    cuda.matmul.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("high")
    assert computes_in_tf32("cuda")


def test_the_reference_is_in_full_fp32_whatever_the_process_allows(settings: None) -> None:
    torch.set_float32_matmul_precision("medium")
    assert mkldnn.matmul.fp32_precision == "bf16"
    with in_full_fp32():
        assert {part.fp32_precision for part in (mkldnn.matmul, mkldnn.conv, mkldnn.rnn)} == {"ieee"}
    assert mkldnn.matmul.fp32_precision == "bf16"
