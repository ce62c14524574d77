"""The spectral products of the fusion against `torch.fft` on dense windows, and their gradients against differences."""

from __future__ import annotations

import pytest
import torch

from recbole_cdsr.model import fusion
from recbole_cdsr.model.fusion import SemanticFusion, _SpectralProducts, block_transforms, real_transforms
from recbole_cdsr.model.kept_tensors import KeptTensors
from recbole_cdsr.model.slots import SlotWindows

LENGTHS = torch.tensor([2, 1, 4, 0, 4])


@pytest.mark.parametrize("n_slots", [1, 2, 3, 4, 15, 16])
def test_the_matrices_are_the_transforms(n_slots: int) -> None:
    signal = torch.randn(n_slots, 3, dtype=torch.float64)
    forward, inverse = real_transforms(n_slots)
    spectrum = torch.fft.rfft(signal, dim=0, norm="ortho")
    assert torch.allclose(forward @ signal, torch.cat([spectrum.real, spectrum.imag]), atol=1e-12)
    # Any half spectrum, also one that no real signal has.
    spectrum = torch.randn(n_slots // 2 + 1, 3, dtype=torch.complex128)
    expected = torch.fft.irfft(spectrum, n=n_slots, dim=0, norm="ortho")
    assert torch.allclose(inverse @ torch.cat([spectrum.real, spectrum.imag]), expected, atol=1e-12)


@pytest.mark.parametrize("n_slots", [4, 5, 7, 8, 9, 12])
@pytest.mark.parametrize("mask_padding", [True, False])
def test_products_are_those_of_dense_windows(n_slots: int, mask_padding: bool) -> None:
    torch.manual_seed(0)
    windows = SlotWindows.from_right_padded(torch.ones(5, 4, dtype=torch.long), LENGTHS, n_slots, mask_padding)
    n_tokens = len(windows.token_slots)
    item, text = (torch.randn(n_tokens, 3, dtype=torch.float64) for _ in range(2))
    weight = torch.randn(n_slots // 2 + 1, 3, 2, dtype=torch.float64)
    dense = [torch.zeros(5 * n_slots, 3, dtype=torch.float64) for _ in range(2)]
    for slots, tokens in zip(dense, (item, text), strict=True):
        slots[windows.token_slots] = tokens
    items, texts = (torch.fft.rfft(slots.view(5, n_slots, 3), dim=1, norm="ortho") for slots in dense)
    products = _SpectralProducts.apply(item, text, weight, windows.blocks, n_slots)
    for product, spectrum in zip(products, (items * torch.view_as_complex(weight), texts * items), strict=True):
        expected = torch.fft.irfft(spectrum, n=n_slots, dim=1, norm="ortho").flatten(0, 1)[windows.token_slots]
        assert torch.allclose(product, expected, atol=1e-12)


@pytest.mark.parametrize("n_slots", [4, 5, 8, 9])
def test_gradients(n_slots: int) -> None:
    torch.manual_seed(0)
    windows = SlotWindows.from_right_padded(torch.ones(5, 4, dtype=torch.long), LENGTHS, n_slots, True)
    n_tokens = len(windows.token_slots)
    values = [torch.randn(n_tokens, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    weight = torch.randn(n_slots // 2 + 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda item, text, filters: _SpectralProducts.apply(item, text, filters, windows.blocks, n_slots),
        (*values, weight),
    )


def test_matrices_of_long_windows_are_kept_up_to_a_limit_and_made_anew_beyond_it(monkeypatch) -> None:
    cpu, n_slots = torch.device("cpu"), 40
    made = [block_transforms(n_slots, length, torch.float32, cpu) for length in range(1, n_slots + 1)]
    kept = KeptTensors(100_000)  # of half a million
    monkeypatch.setattr(fusion, "_kept", kept)
    for _ in range(2):
        for length, expected in enumerate(made, start=1):
            again = block_transforms(n_slots, length, torch.float32, cpu)
            assert kept.n_bytes <= 100_000
            for name, matrix in vars(expected).items():
                assert torch.equal(getattr(again, name), matrix)
    assert block_transforms(n_slots, n_slots, torch.float32, cpu) is again


def test_a_window_without_any_item_gives_nothing() -> None:
    windows = SlotWindows.from_right_padded(
        torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, dtype=torch.long), 3, True
    )
    module = SemanticFusion(4, 3)
    torch.nn.init.normal_(module.complex_weight)
    nothing = torch.zeros(0, 4, requires_grad=True)
    module(windows, nothing, nothing).sum().backward()
    assert nothing.grad.shape == (0, 4)
