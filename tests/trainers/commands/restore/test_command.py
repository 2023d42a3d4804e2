"""The verb `restore` on files: kinds of images, names, failures."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.errors import DataError
from datamodules.files.images import read_image, write_image
from nystra.hosts.dehazeformer.network import DehazeFormer
from tests import goldens
from trainers.cli.main import main
from trainers.commands.restore import command as restore_module
from trainers.commands.restore.command import restore_images
from trainers.tiling.restoration import restore


class Net(nn.Module):
    """Halves the image; its convolution says how many channels it takes and leaves each as it is."""

    def __init__(self, channels=3, scale=1, out_channels=None):
        super().__init__()
        self.size_multiple = 4
        self.scale = scale
        self.out_channels = out_channels or channels
        self.convolution = nn.Conv2d(channels, channels, 1, groups=channels)
        nn.init.constant_(self.convolution.weight, 0.5)
        nn.init.zeros_(self.convolution.bias)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        x = F.interpolate(self.convolution(x), scale_factor=self.scale, mode="nearest")
        return x[:, :1].expand(-1, self.out_channels, -1, -1) if self.out_channels != x.shape[1] else x


@pytest.fixture
def use(monkeypatch):
    def install(net: nn.Module) -> nn.Module:
        monkeypatch.setattr(restore_module, "load_network", lambda path, network: net.eval())
        return net

    return install


def picture(height=37, width=50, channels=3, dtype=np.uint8):
    random = np.random.default_rng(0)
    if dtype == np.float32:
        return random.random((height, width, channels), dtype=np.float32)
    return random.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def run(images, output, **options):
    options = {"tile": 16, "device": "cpu"} | ({} if options.get("tile", 16) is None else {"overlap": 6}) | options
    return restore_images(images, pretrained=Path("net.pth"), output=output, **options)


def half(array):
    white = 1 if array.dtype == np.float32 else np.iinfo(array.dtype).max
    values = array.astype(np.float32) / white * 0.5 * white
    return values if white == 1 else np.rint(values)


@pytest.mark.parametrize(
    ("dtype", "suffix"), [(np.uint8, ".png"), (np.uint16, ".png"), (np.uint16, ".tif"), (np.float32, ".tiff")]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("net_channels", [1, 3])
def test_depth_and_kind_are_kept(use, tmp_path, dtype, suffix, channels, net_channels):
    net = use(Net(net_channels))
    array = picture(channels=channels, dtype=dtype)
    write_image(tmp_path / f"a{suffix}", array)
    [image] = run([tmp_path / f"a{suffix}"], tmp_path / "out")
    result = read_image(image.target)
    assert image.target == tmp_path / "out" / f"a{suffix}"
    assert result.dtype == dtype
    assert result.shape == array.shape
    np.testing.assert_allclose(result[..., :3], half(array[..., :3]), atol=1e-6 if dtype == np.float32 else 1)
    np.testing.assert_array_equal(result[..., 3:], array[..., 3:])
    assert {shape[1:] for shape in net.seen} == {(net_channels, 16, 16)}
    assert image.num_tiles == len(net.seen) > 1


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_enlarging_network(use, tmp_path, channels):
    use(Net(scale=2))
    array = np.full((21, 30, channels), 200, np.uint8)
    write_image(tmp_path / "a.png", array)
    [image] = run([tmp_path / "a.png"], tmp_path / "out")
    result = read_image(image.target)
    assert result.shape == (42, 60, channels)
    assert (result[..., :3] == 100).all()
    assert (result[..., 3:] == 200).all()


def test_equals_tiling_of_the_tensor(use, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1))
    use(net)
    array = picture(dtype=np.uint16)
    write_image(tmp_path / "a.png", array)
    image = torch.from_numpy(array.astype(np.float32) / 65535).permute(2, 0, 1)
    for self_ensemble in (False, True):
        run([tmp_path / "a.png"], tmp_path / "out", self_ensemble=self_ensemble, overwrite=True)
        expected = restore(net, image, tile=None, overlap=0, self_ensemble=self_ensemble).clamp(0, 1)
        result = read_image(tmp_path / "out" / "a.png").astype(np.float32) / 65535
        np.testing.assert_allclose(result, expected.permute(1, 2, 0).numpy(), atol=1.1 / 65535)


def test_whole_image_when_tile_is_none(use, tmp_path):
    net = use(Net())
    write_image(tmp_path / "a.png", picture())
    run([tmp_path / "a.png"], tmp_path / "out", tile=None)
    assert net.seen == [(1, 3, 40, 52)]


def test_bf16_is_close(use, tmp_path):
    use(Net())
    array = picture()
    write_image(tmp_path / "a.png", array)
    [image] = run([tmp_path / "a.png"], tmp_path / "out", precision="bf16")
    np.testing.assert_allclose(read_image(image.target), half(array), atol=2)


def test_folder_structure_suffix_and_extension(use, tmp_path):
    use(Net())
    (tmp_path / "in" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "in" / ".hidden").mkdir()
    for name in ("a.png", "b.jpg", "sub/deep/c.TIF", ".hidden/d.png", ".e.png"):
        write_image(tmp_path / "in" / name, picture())
    (tmp_path / "in" / "notes.txt").write_text("no image")
    run([tmp_path / "in"], tmp_path / "out", suffix="_clean")
    written = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert written == ["a_clean.png", "b_clean.png", "sub/deep/c_clean.TIF"]


def test_existing_results_are_kept_unless_overwritten(use, tmp_path, capsys):
    net = use(Net())
    write_image(tmp_path / "a.png", picture())
    assert len(run([tmp_path / "a.png"], tmp_path / "out")) == 1
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    seen = len(net.seen)
    assert run([tmp_path / "a.png"], tmp_path / "out") == []
    assert len(net.seen) == seen
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    assert "kept" in capsys.readouterr().out
    assert len(run([tmp_path / "a.png"], tmp_path / "out", overwrite=True)) == 1
    assert read_image(tmp_path / "out" / "a.png").shape == (37, 50, 3)


def test_results_inside_the_searched_folder_are_not_restored_again(use, tmp_path):
    use(Net())
    write_image(tmp_path / "a.jpg", picture())
    for _ in range(2):
        run([tmp_path], tmp_path / "out")
    for _ in range(2):
        run([tmp_path / "a.jpg"], tmp_path, suffix="_clean", overwrite=True)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["a.jpg", "a_clean.png", "out/a.png"]


def test_table_and_memory_are_printed(use, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    use(Net())
    write_image(tmp_path / "a [bold].png", picture())
    [image] = run([tmp_path / "a [bold].png"], tmp_path / "out")
    printed = capsys.readouterr().out
    for expected in ("a [bold].png", "50×37", str(image.num_tiles), "MiB", "16×16"):
        assert expected in printed
    assert image.host_bytes <= 5 * 37 * 50 * 3 + 4 * 3 * 16 * 50


def test_bad_images_are_reported_after_the_others(use, tmp_path, capsys):
    use(Net())
    (tmp_path / "in").mkdir()
    for name in ("a.png", "c.png"):
        write_image(tmp_path / "in" / name, picture())
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:300])
    (tmp_path / "in" / "d.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"images \(2 of 4\) could not be restored, the others were:") as caught:
        run([tmp_path / "in"], tmp_path / "out")
    assert "b.png" in str(caught.value)
    assert "d.jpg" in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert "failed" in capsys.readouterr().out


def test_results_that_are_not_finite_are_bad_images(use, tmp_path):
    net = use(Net())
    nn.init.constant_(net.convolution.weight, float("nan"))
    write_image(tmp_path / "a.png", picture())
    for precision, remedy in (("float32", "choose another checkpoint"), ("bf16", "compute it in float32")):
        with pytest.raises(DataError, match=r"images \(1 of 1\) could not be restored:\n") as caught:
            run([tmp_path / "a.png"], tmp_path / "out", precision=precision)
        assert f"finite result, got NaN or Inf; {remedy}" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "tile", "remedy"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), 64, "--tile 32"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), None, "--tile 512"),
        (MemoryError(), 64, "--tile 32"),
    ],
)
def test_out_of_memory_names_the_remedy(use, tmp_path, monkeypatch, error, tile, remedy):
    net = use(Net())

    def fail(x):
        raise error

    monkeypatch.setattr(net, "forward", fail)
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(ValueError, match=rf"tile \(.*\) must be smaller.*a\.png; give {remedy}"):
        run([tmp_path / "a.png"], tmp_path / "out", tile=tile)


def test_other_runtime_errors_are_not_hidden(use, tmp_path, monkeypatch):
    net = use(Net())

    def fail(x):
        raise RuntimeError("a bug")

    monkeypatch.setattr(net, "forward", fail)
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(RuntimeError, match="a bug"):
        run([tmp_path / "a.png"], tmp_path / "out")


def test_full_disk_leaves_nothing_behind(use, tmp_path, monkeypatch):
    use(Net())
    write_image(tmp_path / "a.png", picture())

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"output \(.*a\.png\) must be writable, got: No space left"):
        run([tmp_path / "a.png"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_and_empty_paths(use, tmp_path):
    use(Net())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"images \(.*nowhere\.png\) must be an existing"):
        run([tmp_path / "nowhere.png"], tmp_path / "out")
    with pytest.raises(DataError, match=r"images \(.*empty\) must hold images"):
        run([tmp_path / "empty"], tmp_path / "out")


def test_outputs_that_would_collide(use, tmp_path):
    use(Net())
    write_image(tmp_path / "a.png", picture())
    write_image(tmp_path / "a.jpg", picture())
    with pytest.raises(DataError, match="must not replace the image"):
        run([tmp_path / "a.png"], tmp_path, overwrite=True)
    with pytest.raises(DataError, match="must have distinct results"):
        run([tmp_path / "a.png", tmp_path / "a.jpg"], tmp_path / "out")
    with pytest.raises(DataError, match=r"output \(.*a\.png\) must be a folder"):
        run([tmp_path / "a.jpg"], tmp_path / "a.png")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["cuda:99", "graphics card"])
def test_device_that_is_not_there(use, tmp_path, device):
    use(Net())
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(ValueError, match=rf"device \({device}\) must be available"):
        run([tmp_path / "a.png"], tmp_path / "out", device=device)


@pytest.mark.parametrize(("net", "message"), [(Net(6), "takes 6"), (Net(3, out_channels=31), "got 31")])
def test_networks_that_do_not_make_images(use, tmp_path, net, message):
    use(net)
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(ValueError, match=message):
        run([tmp_path / "a.png"], tmp_path / "out")


def test_a_kernel_goes_into_a_window_network_and_into_no_other(tmp_path):
    weights = goldens.released_form(DehazeFormer, "dehazeformer_small_t")
    torch.save({"state_dict": weights}, tmp_path / "window.pth")
    torch.save(goldens.load("restormer_small_biasfree").weights, tmp_path / "channel.pth")
    write_image(tmp_path / "hazy.png", picture(72, 80))

    def run(*options):
        command = ["restore", str(tmp_path / "hazy.png"), *options, "--overwrite=true", f"--output={tmp_path / 'out'}"]
        return main(command)

    assert run(f"--pretrained={tmp_path / 'window.pth'}") == 0
    exact = read_image(tmp_path / "out" / "hazy.png")
    assert run(f"--pretrained={tmp_path / 'window.pth'}", "--kernel=Nystrom", "--kernel.landmarks=4") == 0
    assert not np.array_equal(read_image(tmp_path / "out" / "hazy.png"), exact)
    assert run(f"--pretrained={tmp_path / 'window.pth'}", "--window_size=16") == 0
    assert run(f"--pretrained={tmp_path / 'channel.pth'}", "--kernel=Nystrom") == 2
    assert run(f"--pretrained={tmp_path / 'channel.pth'}", "--window_size=16") == 2
