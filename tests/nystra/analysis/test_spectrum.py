"""Weights of kernels as matrices, and their singular values."""

import pytest
import torch

import nystra
from nystra.analysis import attention_weights, window_spectra
from nystra.windows import WindowKind

KERNELS = [
    nystra.Softmax(),
    nystra.LandmarkPooling(4, 16, "own"),
    nystra.ContentPooling(),
    nystra.Nystrom(4, 8),
    nystra.Nystromformer(4),
    nystra.PublishedNystrom(4),
    nystra.Performer(16),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@pytest.mark.parametrize("split", [(None, None), (None, 2)])
def test_weights_are_those_that_sum_values(kernel, split):
    query, key, value = torch.randn(3, 2, 2, 64, 8, generator=torch.Generator().manual_seed(0))
    kind = WindowKind((8, 8), split=split, bias=None, device=query.device)
    weights = attention_weights(kernel, query, key, value, kind)
    attended = kernel.attend(query, key, value, kernel.tables(kind, query.dtype))
    torch.testing.assert_close(weights @ value, attended, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(attention_weights(kernel, query, key, value, kind, [7, 3]), weights[:, :, [7, 3]])


def test_spectra_are_those_of_the_softmax():
    net = nystra.SwinIR(img_size=8, embed_dim=8, depths=[2], num_heads=[2], window_size=4).eval()
    image = torch.rand(1, 3, 8, 8)
    first, second = window_spectra(net, [image]).values()
    for each in (first, second):
        assert each.singular_values.shape == each.energy.shape == (16,)
        assert each.energy[-1] == pytest.approx(1)
    # A kernel without a position bias that pools all keys into one cell has rank 1 but for the queries' own cell.
    nystra.substitute(net, nystra.Nystrom(1, 1))
    low, _ = window_spectra(net, [image, image], windows=1).values()
    assert low.energy[0] > first.energy[0]


def test_nothing_to_measure_is_refused():
    net = nystra.SwinIR(img_size=8, embed_dim=8, depths=[1], num_heads=[2], window_size=4)
    with pytest.raises(ValueError, match="at least one image"):
        window_spectra(net, [])
    with pytest.raises(ValueError, match=r"windows \(0\)"):
        window_spectra(net, [torch.rand(1, 3, 8, 8)], windows=0)
