"""Every host of this package keeps the contract of hosts."""

from functools import partial

import pytest

import glmha
import nystra
from tests.conformance import Host, checks

WINDOWS = {
    "SwinIR": (
        partial(nystra.SwinIR, img_size=8, embed_dim=12, depths=[2], num_heads=[2], window_size=4, mlp_ratio=2.0),
        [(8, 8), (1, 1), (3, 7), (21, 16)],
        [],
    ),
    "SwinIR x2": (
        partial(
            nystra.SwinIR,
            img_size=16,
            embed_dim=12,
            depths=[2, 1],
            num_heads=[2, 3],
            window_size=4,
            upscale=2,
            upsampler="pixelshuffledirect",
        ),
        [(8, 12), (1, 2), (5, 21), (16, 17)],
        [],
    ),
    "Uformer": (
        partial(
            nystra.Uformer, img_size=64, embed_dim=4, depths=[1, 2, 1, 1, 1, 1, 1, 2, 1], num_heads=[1] * 9, win_size=4
        ),
        [(64, 64), (64, 128), (128, 128)],
        [(32, 64), (72, 64), (64, 1)],
    ),
    "DehazeFormer": (
        partial(
            nystra.DehazeFormer,
            window_size=4,
            embed_dims=(4, 8, 8, 8, 4),
            depths=(1, 2, 2, 1, 1),
            num_heads=(1, 2, 2, 1, 1),
            attn_ratio=(0, 0.5, 1, 0, 0),
        ),
        [(32, 32), (16, 16), (17, 31), (32, 37)],
        [(16, 1), (2, 32)],
    ),
}
HOSTS = {
    **{
        name: Host(make, nystra.load_pretrained, lambda n, h, w: [(n, 3, h, w)], taken, refused)
        for name, (make, taken, refused) in WINDOWS.items()
    },
    "RVRT": Host(
        partial(
            nystra.RVRT,
            num_blocks=[1, 1, 1],
            depths=[1, 2, 1],
            embed_dims=[6, 6, 6],
            num_heads=[2, 2, 2],
            window_size=[2, 4, 4],
            deformable_groups=2,
            attention_heads=2,
        ),
        nystra.load_pretrained,
        lambda n, h, w: [(n, 2, 3, h, w)],
        taken=[(8, 12), (1, 1), (9, 6), (8, 8)],
        pads=True,
    ),
    "Restormer": Host(
        partial(glmha.Restormer, dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1),
        glmha.load_pretrained,
        lambda n, h, w: [(n, 3, h, w)],
        taken=[(16, 24), (8, 8)],
        refused=[(12, 16), (16, 1)],
        takes_attention=True,
    ),
    "MST": Host(
        partial(glmha.MST, dim=6, stage=1, num_blocks=(1, 1)),
        glmha.load_pretrained,
        lambda n, h, w: [(n, 6, h, w), (n, 6, h, w + 10)],
        taken=[(16, 16), (2, 2)],
        refused=[(15, 15), (3, 3)],
        coupled=True,
        takes_attention=True,
    ),
    "RealMST": Host(
        partial(glmha.RealMST, dim=6, stage=1, num_blocks=(1, 1)),
        glmha.load_pretrained,
        lambda n, h, w: [(n, h, w + 10)],
        taken=[(8, 12), (2, 2)],
        refused=[(8, 7), (3, 8)],
        takes_attention=True,
    ),
    "RGBMST": Host(
        partial(glmha.RGBMST, dim=6, stage=1, num_blocks=(1, 1)),
        glmha.load_pretrained,
        lambda n, h, w: [(n, 3, h, w)],
        taken=[(13, 18), (5, 5)],
        pads=True,
        refused=[(16, 4), (1, 16)],
        coupled=True,
        takes_attention=True,
    ),
    "MSTPlusPlus": Host(
        partial(glmha.MSTPlusPlus, out_channels=6, n_feat=6, stage=1),
        glmha.load_pretrained,
        lambda n, h, w: [(n, 3, h, w)],
        taken=[(13, 18), (5, 5)],
        pads=True,
        refused=[(4, 16), (16, 1)],
        takes_attention=True,
    ),
    "CassiMSTPlusPlus": Host(
        partial(glmha.CassiMSTPlusPlus, in_channels=5, out_channels=6, n_feat=6, stage=1),
        glmha.load_pretrained,
        lambda n, h, w: [(n, 5, h, w)] * 2,
        taken=[(13, 18), (5, 5)],
        pads=True,
        refused=[(3, 3)],
        takes_attention=True,
    ),
}


@pytest.mark.parametrize(("name", "check"), [(name, check) for name, host in HOSTS.items() for check in checks(host)])
def test_hosts_keep_their_contract(name, check, tmp_path):
    check(HOSTS[name], tmp_path)
