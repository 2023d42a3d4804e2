"""The spectrum of attention matrices whose rank is known."""

import pytest
import torch

import glmha
from glmha.spectrum import cumulative_energy, rank_for_energy, spectrum


def test_energy_of_known_matrices():
    identity = torch.eye(4).expand(1, 2, 4, 4)
    torch.testing.assert_close(cumulative_energy(identity)[0], torch.tensor([0.25, 0.5, 0.75, 1]).double())
    uniform = torch.full((1, 1, 4, 4), 0.25)
    torch.testing.assert_close(cumulative_energy(uniform)[0], torch.ones(4).double())


def test_every_block_is_averaged_over_images():
    torch.manual_seed(0)
    net = glmha.Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1).eval()
    images = [torch.rand(1, 3, 16, 16) for _ in range(2)]
    both = spectrum(net, images)
    assert set(both) == {
        f"{level}.0.attn"
        for level in (
            "encoder_level1",
            "encoder_level2",
            "encoder_level3",
            "latent",
            "decoder_level3",
            "decoder_level2",
            "decoder_level1",
            "refinement",
        )
    }
    single = [spectrum(net, [image]) for image in images]
    for name, energy in both.items():
        torch.testing.assert_close(energy, (single[0][name] + single[1][name]) / 2)
        assert (energy.diff() >= -1e-12).all()
        assert energy[-1] == pytest.approx(1)


def test_rank_for_energy():
    energy = torch.tensor([0.5, 0.8, 0.95, 1.0])
    assert [rank_for_energy(energy, share) for share in (0.5, 0.9, 0.95001, 1.0)] == [1, 3, 4, 4]
    with pytest.raises(ValueError, match=r"share \(0\)"):
        rank_for_energy(energy, 0)


def test_what_cannot_be_measured_is_named():
    with pytest.raises(ValueError, match=r"net must contain a glmha\.ChannelAttention"):
        spectrum(torch.nn.Identity(), [])
    with pytest.raises(ValueError, match="images must hold at least one"):
        spectrum(glmha.ChannelAttention(4, 1), [])
