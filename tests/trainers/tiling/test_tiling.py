"""Tiled restoration: seams, sizes, memory."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from glmha import Restormer
from glmha.shared.image_network import image_rules
from nystra.hosts.uformer.network import Uformer
from trainers.tiling.layout import lay_out_tiles
from trainers.tiling.restoration import restore, restore_bands


class Local(nn.Module):
    """Convolutions of receptive radius `depth`; remembers what it was given."""

    def __init__(self, depth=4, channels=3, scale=1):
        super().__init__()
        torch.manual_seed(0)
        self.scale = scale
        self.stack = nn.Sequential(*(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth)))
        self.seen: list[torch.Size] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.shape)
        for layer in self.stack:
            x = x + torch.tanh(layer(x))
        return F.interpolate(x, scale_factor=self.scale, mode="nearest")


class Strided(nn.Module):
    """Downsamples by 4 and back: exact in tiles only if they begin on the grid of 4."""

    size_multiple = 4

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 8, 5, stride=4, padding=2)
        self.up = nn.ConvTranspose2d(8, 3, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 4 or x.shape[-2] % 4:
            raise AssertionError(f"size {tuple(x.shape)} is not a multiple of 4")
        return x + self.up(torch.tanh(self.down(x)))


class Global(nn.Module):
    """Its output depends on the mean of all that it sees, so that every tile differs."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean((-2, -1), keepdim=True)


@pytest.mark.parametrize("size", [(52, 72), (65, 97), (40, 131), (31, 200), (5, 7), (1, 70)])
@pytest.mark.parametrize("scale", [1, 3])
def test_tiled_equals_whole_when_the_margin_covers_the_receptive_field(size, scale):
    net = Local(depth=4, scale=scale)
    image = torch.rand(3, *size)
    whole = restore(net, image, tile=None, overlap=0)
    tiled = restore(net, image, tile=32, overlap=12)
    assert tiled.shape == (3, size[0] * scale, size[1] * scale)
    torch.testing.assert_close(tiled, whole)


def test_receptive_field_beyond_the_margin_shows():
    # The margin is what makes tiles exact: one pixel less, on tiles that overlap by no more than asked for.
    net = Local(depth=4)
    image = torch.rand(3, 53, 53)
    whole = restore(net, image, tile=None, overlap=0)
    assert (restore(net, image, tile=32, overlap=11) - whole).abs().max() > 1e-4


@pytest.mark.parametrize("size", [(64, 64), (61, 83), (30, 101), (3, 2), (1, 1), (33, 66)])
def test_tiles_lie_on_the_grid_of_a_network_that_downsamples(size):
    net = Strided()
    image = torch.rand(2, 3, *size)
    whole = restore(net, image, tile=None, overlap=0)
    torch.testing.assert_close(restore(net, image, tile=32, overlap=21), whole)


def test_size_multiple_pads_by_reflection_at_the_bottom_and_right():
    image = torch.rand(1, 3, 13, 18)
    expected = Strided()(F.pad(image, (0, 2, 0, 3), mode="reflect"))[..., :13, :18]
    torch.testing.assert_close(restore(Strided(), image, tile=None, overlap=0), expected)


def test_restormer_takes_any_size():
    torch.manual_seed(0)
    net = Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1).eval()
    image = torch.rand(3, 29, 41)
    expected = net(F.pad(image[None], (0, 7, 0, 3), mode="reflect"))[0, :, :29, :41]
    torch.testing.assert_close(restore(net, image, tile=None, overlap=0), expected)
    assert restore(net, image, tile=24, overlap=8).shape == image.shape


def test_a_network_says_which_sizes_it_takes():
    net = Uformer(embed_dim=4, num_heads=(1,) * 9, win_size=2).eval()
    net.set_window(16)
    assert [side for side in range(300) if image_rules(net).fits(side)] == [32, 64, 128, 256]
    # Not 16 windows of 16 pixels, to which multiples alone would pad.
    assert lay_out_tiles(50, 70, tile=None, overlap=0, size_multiple=32, taken=net.takes).tile_size == (64, 128)
    assert lay_out_tiles(50, 300, tile=250, overlap=8, size_multiple=32, taken=net.takes).tile_size == (64, 128)
    assert restore(net, torch.rand(3, 50, 140), tile=100, overlap=8).shape == (3, 50, 140)
    with pytest.raises(ValueError, match=r"tile \(50\) must be at least the network's smallest input"):
        lay_out_tiles(50, 50, tile=50, overlap=0, size_multiple=32, taken=lambda side: side >= 64)


@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (16, 1), (16, 5), (16, 8), (16, 13), (24, 20), (8, 7)])
@pytest.mark.parametrize("size_multiple", [1, 3])
@pytest.mark.parametrize("scale", [1, 2])
def test_weights_sum_to_exactly_one(tile, overlap, size_multiple, scale):
    for length in (1, 7, 16, 17, 31, 32, 33, 64, 101):
        if tile // size_multiple * size_multiple - overlap < size_multiple:
            continue
        layout = lay_out_tiles(length, 5, tile=tile, overlap=overlap, size_multiple=size_multiple, scale=scale)
        total = torch.zeros(length * scale)
        for span in layout.rows:
            assert span.weights.min() >= 0
            total[span.start : span.stop] += span.weights
        assert torch.equal(total, torch.ones(length * scale))


@pytest.mark.parametrize("length", [33, 64, 101, 200])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 12), (32, 24), (16, 9)])
def test_a_third_of_the_overlap_is_discarded_at_inner_borders(length, tile, overlap):
    layout = lay_out_tiles(length, length, tile=tile, overlap=overlap)
    for before, after in zip(layout.rows[:-1], layout.rows[1:], strict=True):
        assert after.first >= overlap // 3
        assert before.kept.stop <= tile - overlap // 3
        assert after.source[0] <= before.source[-1] - overlap + 1
    assert layout.rows[0].first == 0
    assert layout.rows[-1].kept.stop == tile


def test_seams_of_a_global_network_are_smooth():
    image = torch.linspace(0, 1, 96).expand(1, 64, 96)
    tiled = restore(Global(), image, tile=32, overlap=15)
    steps = (tiled[..., 1:] - tiled[..., :-1]).abs().max()
    hard = restore(Global(), image, tile=32, overlap=0)
    assert steps < (hard[..., 1:] - hard[..., :-1]).abs().max() / 3


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels_and_batch(channels):
    net = Local(depth=2, channels=channels)
    image = torch.rand(2, channels, 40, 50)
    tiled = restore(net, image, tile=24, overlap=6)
    torch.testing.assert_close(tiled, net(image))
    torch.testing.assert_close(restore(net, image[0], tile=24, overlap=6), tiled[0])


def test_memory_is_bounded_by_the_tile():
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                self.elements = max(self.elements, result.numel())
            return result

    width, tile, overlap = 150, 32, 12
    for height in (200, 2000):
        net = Local()
        image = torch.rand(1, 3, height, width)
        layout = lay_out_tiles(height, width, tile=tile, overlap=overlap)

        def read(rows, columns, image=image):
            return image[..., rows[:, None], columns]

        with Largest() as largest:
            rows = sum(band.shape[-2] for band in restore_bands(net, read, layout))
        assert rows == height
        assert set(net.seen) == {(1, 3, tile, tile)}
        assert len(net.seen) == layout.num_tiles
        assert layout.band_pixels <= tile * width
        assert largest.elements <= 3 * layout.band_pixels


def test_a_small_image_is_one_tile_of_its_own_size():
    net = Local()
    restore(net, torch.rand(3, 20, 100), tile=32, overlap=12)
    assert set(net.seen) == {(1, 3, 20, 32)}


def test_tile_is_lowered_to_the_size_multiple():
    layout = lay_out_tiles(100, 100, tile=30, overlap=8, size_multiple=8)
    assert layout.tile_size == (24, 24)


def test_progress_counts_every_tile():
    calls: list[tuple[int, int]] = []
    restore(
        Local(), torch.rand(3, 50, 70), tile=32, overlap=12, progress=lambda done, total: calls.append((done, total))
    )
    total = lay_out_tiles(50, 70, tile=32, overlap=12).num_tiles
    assert calls == [(done, total) for done in range(1, total + 1)]


def test_self_ensemble_averages_the_eight_symmetries():
    net = Local()
    image = torch.rand(3, 30, 41)
    expected = torch.zeros(3, 30, 41)
    for turns in range(4):
        for dims in ([], [-1]):
            result = net(torch.rot90(image, turns, (-2, -1)).flip(dims)[None])[0]
            expected += torch.rot90(result.flip(dims), -turns, (-2, -1)) / 8
    torch.testing.assert_close(restore(net, image, tile=None, overlap=0, self_ensemble=True), expected)
    torch.testing.assert_close(restore(net, image, tile=24, overlap=12, self_ensemble=True), expected)


def test_self_ensemble_makes_the_result_equivariant():
    image = torch.rand(3, 24, 24)
    turned = restore(Local(), image.rot90(1, (-2, -1)), tile=None, overlap=0, self_ensemble=True)
    torch.testing.assert_close(
        turned.rot90(-1, (-2, -1)), restore(Local(), image, tile=None, overlap=0, self_ensemble=True)
    )


@pytest.mark.parametrize("self_ensemble", [False, True])
def test_autocast_gives_float32_close_to_full_precision(self_ensemble):
    image = torch.rand(3, 40, 40)
    full = restore(Local(), image, tile=32, overlap=12, self_ensemble=self_ensemble)
    low = restore(Local(), image, tile=32, overlap=12, self_ensemble=self_ensemble, autocast=torch.bfloat16)
    assert low.dtype == torch.float32
    assert 0 < (low - full).abs().max() < 0.1


def test_double_precision_is_kept():
    image = torch.rand(3, 40, 40, dtype=torch.float64)
    tiled = restore(Local().double(), image, tile=32, overlap=12)
    torch.testing.assert_close(tiled, Local().double()(image[None])[0], rtol=1e-12, atol=1e-12)


def test_no_graph_is_built():
    assert not restore(Local(), torch.rand(3, 8, 8), tile=None, overlap=0).requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_image_stays_on_the_cpu_and_tiles_go_to_the_device():
    image = torch.rand(3, 500, 700)
    net = Local().cuda()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    tiled = restore(net, image, tile=64, overlap=12)
    assert tiled.device.type == "cpu"
    assert torch.cuda.max_memory_allocated() - before < 64 * 64 * 3 * 4 * 40
    torch.testing.assert_close(tiled, Local()(image[None])[0], rtol=1e-3, atol=1e-3)  # TF32 convolutions


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(8, 8), "image must be a float tensor"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "image must be a float tensor"),
        (torch.zeros(3, 0, 8), "at least one pixel"),
    ],
)
def test_images_that_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        restore(nn.Identity(), image, tile=4, overlap=0)


@pytest.mark.parametrize(
    ("tile", "overlap", "size_multiple", "message"),
    [
        (32, -1, 1, r"overlap \(-1\) must be at least 0"),
        (32, 32, 1, r"overlap \(32\) must be at most 31"),
        (32, 25, 8, r"overlap \(25\) must be at most 24"),
        (4, 0, 8, r"tile \(4\) must be at least 8"),
    ],
)
def test_tiles_that_do_not_fit(tile, overlap, size_multiple, message):
    with pytest.raises(ValueError, match=message):
        lay_out_tiles(100, 100, tile=tile, overlap=overlap, size_multiple=size_multiple)


def test_wrong_scale_is_named():

    class Doubling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(x, scale_factor=2)

    with pytest.raises(ValueError, match="check the network's `scale` attribute"):
        restore(Doubling(), torch.rand(3, 8, 8), tile=None, overlap=0)
