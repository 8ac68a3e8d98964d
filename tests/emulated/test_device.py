"""The emulated device refuses what MPS refuses, computes what the CPU computes, and leaves nothing behind."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from tests.emulated import faults
from tests.emulated.mps import emulated_mps
from tests.emulated.tensor import Computer, Product

NO_FLOAT64 = "doesn't support float64"
TWO_DEVICES = "at least two devices, mps:0 and cpu"


def some(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def there(*shape: int) -> torch.Tensor:
    return some(*shape).to("mps")


@pytest.mark.parametrize(
    ("work", "error", "words"),
    [
        (lambda: some(2).double().to("mps"), TypeError, NO_FLOAT64),
        (lambda: some(2).to("mps", torch.float64), TypeError, NO_FLOAT64),
        (lambda: there(2).double(), TypeError, NO_FLOAT64),
        (lambda: there(2).to(torch.float64), TypeError, NO_FLOAT64),
        (lambda: there(2).to("cpu", torch.float64), TypeError, NO_FLOAT64),
        (lambda: torch.as_tensor(there(2), dtype=torch.float64, device="cpu"), TypeError, NO_FLOAT64),
        (lambda: torch.zeros(2, dtype=torch.float64).copy_(there(2)), TypeError, NO_FLOAT64),
        (lambda: torch.zeros(2, dtype=torch.float64, device="mps"), TypeError, NO_FLOAT64),
        (lambda: torch.tensor([0.5, 1.0], dtype=torch.float64).to(there(2)), None, ""),
        (lambda: there(2).mean(dtype=torch.float64), TypeError, NO_FLOAT64),
        (lambda: torch.mul(there(2).int(), torch.tensor(0.5, dtype=torch.float64)), TypeError, NO_FLOAT64),
        (lambda: there(2) * torch.tensor(0.5, dtype=torch.float64), None, ""),
        (lambda: there(2).to(torch.complex128), TypeError, "ComplexDouble"),
        (lambda: there(2) + some(2), RuntimeError, TWO_DEVICES),
        (lambda: there(2) + some(2)[0], None, ""),
        (lambda: torch.stack([there(2)[0], some(2)[0]]), RuntimeError, TWO_DEVICES),
        (lambda: there(2)[torch.tensor([1])], None, ""),
        (lambda: some(2)[torch.tensor([1], device="mps")], RuntimeError, TWO_DEVICES),
        (lambda: torch.nn.Linear(2, 2)(there(2)), RuntimeError, TWO_DEVICES),
        (lambda: torch.randn(2, device="mps", generator=torch.Generator()), RuntimeError, "generator"),
        (lambda: there(2).normal_(generator=torch.Generator()), RuntimeError, "generator"),
        (lambda: there(2).numpy(), TypeError, "can't convert mps:0 device type tensor to numpy"),
        (lambda: there(2).cpu().numpy(), None, ""),
        (lambda: torch.linalg.eigvals(there(2, 2)), NotImplementedError, "not currently implemented for the MPS"),
        (lambda: torch.autocast("mps", dtype=torch.float32), UserWarning, "MPS Autocast only supports dtypes of"),
    ],
)
def test_what_mps_refuses_is_refused(
    mps: Computer, work: Callable[[], torch.Tensor], error: type[Exception] | None, words: str
) -> None:
    if error is None:
        work()
        return
    with pytest.raises(error, match=words):
        work()


def test_a_training_step_on_the_device_gives_the_gradients_of_the_cpu(mps: Computer) -> None:
    layer, x = torch.nn.Linear(6, 6), some(2, 3, 5, 6)

    def step(x: torch.Tensor) -> torch.Tensor:
        x = layer(x)
        return checkpoint(scaled_dot_product_attention, x, x, x, use_reentrant=False, preserve_rng_state=False)

    step(x).square().mean().backward()
    expected = layer.weight.grad.clone()
    layer.to("mps").zero_grad()
    result = step(x.to("mps"))
    loss = result.square().mean()
    loss.backward()
    assert layer.weight.grad.device == result.device == loss.device == torch.device("mps:0")
    assert torch.allclose(layer.weight.grad.cpu(), expected, atol=1e-6)
    assert mps.waits == 1


def test_gradients_cross_the_border(mps: Computer) -> None:
    weight = some(3).requires_grad_()
    (weight.to("mps") * 2).cpu().sum().backward()
    assert weight.grad.tolist() == [2, 2, 2]


def test_a_fault_strikes_where_it_was_planted(mps: Computer) -> None:
    x = there(2, 4)
    weight = there(4, 4).requires_grad_()
    right = (x @ weight).detach()

    def outer() -> torch.Tensor:
        return x @ weight

    cases = [
        (faults.wrong("mm"), True),
        (faults.wrong("mm", when=faults.in_phase("no_grad")), False),
        (faults.wrong("mm", when=faults.in_phase("forward")), True),
        (faults.wrong("mm", when=faults.in_dtype(torch.float16)), False),
        (faults.wrong("mm", when=faults.within("outer")), True),
        (faults.wrong("mm", when=faults.within("AutoencoderKL.encode")), False),
    ]
    for fault, strikes in cases:
        with mps.faults.plant(fault):
            assert torch.equal(outer().detach(), right) is not strikes
        assert fault.count == strikes
    with mps.faults.plant(faults.missing("mm")), pytest.raises(NotImplementedError, match="aten::mm"):
        outer()
    assert torch.equal(outer().detach(), right)
    with mps.faults.plant(faults.wrong("mm", change=lambda values: values * 0, when=faults.in_phase("backward"))):
        outer().sum().backward()
    assert not weight.grad.any()


def test_a_kernel_that_updates_in_place_can_be_wrong(mps: Computer) -> None:
    def weight_after_a_step() -> torch.Tensor:
        weight = torch.nn.Parameter(torch.ones(3, device="mps"))
        weight.grad = torch.ones(3, device="mps")
        torch.optim.AdamW([weight], lr=0.1, fused=True).step()
        return weight.detach()

    right = weight_after_a_step()
    with mps.faults.plant(faults.wrong("_fused_adamw_")):
        assert not torch.allclose(weight_after_a_step(), right)


def test_attention_without_gradients_is_a_kernel_of_its_own(mps: Computer) -> None:
    x = there(1, 2, 8, 4)
    learns = x.clone().requires_grad_()
    with mps.faults.plant(faults.wrong("_scaled_dot_product_attention_math_for_mps")):
        wrong, right = scaled_dot_product_attention(x, x, x), scaled_dot_product_attention(learns, x, x).detach()
    assert torch.allclose(scaled_dot_product_attention(x, x, x), right, atol=1e-6)
    assert not torch.allclose(wrong, right)


def test_products_of_matrices_are_noted(mps: Computer) -> None:
    torch.nn.functional.linear(there(5, 3), there(4, 3), there(4))
    assert mps.products == {Product(5, 3, 4)}


def test_other_threads_see_the_device(mps: Computer) -> None:
    found: list[torch.device] = []
    thread = threading.Thread(target=lambda: found.append(torch.zeros(2, device="mps").device))
    thread.start()
    thread.join()
    assert found == [torch.device("mps:0")]


def test_nothing_of_the_device_is_left() -> None:
    from shoes.device import measure

    before = (torch.mps.Event, torch.inference_mode, threading.Thread.run, torch.autocast.__init__, measure())
    with emulated_mps():
        assert measure().apple_generation == 2
        assert measure().mps
        outlived = there(2)
    after = (torch.mps.Event, torch.inference_mode, threading.Thread.run, torch.autocast.__init__, measure())
    assert after == before
    assert not torch.__future__.get_overwrite_module_params_on_conversion()
    with pytest.raises(AssertionError, match="outlived"):
        outlived + 1
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(2, device="mps")
