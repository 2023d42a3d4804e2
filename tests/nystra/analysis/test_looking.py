"""Where a query looks: the window of a pixel, the image under it, the weights."""

import pytest
import torch

import nystra
from nystra.analysis import look
from tests.trainers.small_networks import dehazeformer

SHIFTED = "layers.0.residual_group.blocks.1.attn"


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nystra.SwinIR(img_size=8, embed_dim=8, depths=[2], num_heads=[2], window_size=4).eval()


@pytest.mark.parametrize("site", ["layers.0.residual_group.blocks.0.attn", SHIFTED])
@pytest.mark.parametrize("pixel", [(5, 9), (0, 0), (15, 23)])
def test_the_query_lies_where_the_pixel_is(net, site, pixel):
    image = torch.rand(1, 3, 16, 24)
    seen = look(net, image, pixel, [nystra.Softmax(), nystra.LandmarkPooling(4, 4)], site=site)
    row, column = seen.token
    assert torch.equal(seen.picture[:, row, column], image[0, :, pixel[0], pixel[1]])
    torch.testing.assert_close(seen.exact.sum((1, 2)), torch.ones(2))
    assert torch.equal(seen.kernels[nystra.Softmax()], seen.exact)
    assert isinstance(nystra.find_sites(net, site)[site].kernel, nystra.Softmax)


def test_a_window_inside_is_a_part_of_the_image(net):
    image = torch.rand(1, 3, 16, 24)
    seen = look(net, image, (7, 9), [], site=SHIFTED)
    # Rolled by half a window.
    assert torch.equal(seen.picture, image[0, :, 6:10, 6:10])
    assert seen.token == (1, 3)


def test_tokens_of_several_pixels_and_reflected_edges_show_their_pixels():
    net = dehazeformer().eval()
    image = torch.rand(1, 3, 40, 48) * 2 - 1
    sides = []
    for site in nystra.find_sites(net):
        seen = look(net, image, (3, 45), [], site=site)
        side = seen.picture.shape[1] // seen.exact.shape[1]
        row, column = (side * index for index in seen.token)
        shown = seen.picture[:, row : row + side, column : column + side]
        top, left = 3 // side * side, 45 // side * side
        assert torch.equal(shown, image[0, :, top : top + side, left : left + side])
        sides.append(side)
    assert set(sides) == {2, 4}


def test_what_does_not_fit_is_refused(net):
    with pytest.raises(ValueError, match=r"pixel \(16, 0\)"):
        look(net, torch.rand(1, 3, 16, 24), (16, 0), [], site=SHIFTED)
