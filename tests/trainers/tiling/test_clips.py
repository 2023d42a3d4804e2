"""Clips in tiles of time and space, as published scripts lay them."""

import pytest
import torch
from torch import nn

from tests.trainers.clip_networks import ClipNetwork, FrameNumbers
from trainers.tiling.clips import ClipTiles, lay_out_clip, lay_out_frames, restore_clip, restore_frames, sample_in_tiles
from trainers.tiling.layout import lay_out_tiles


@pytest.mark.parametrize(
    ("count", "frames", "overlap", "expected"),
    [
        (10, None, 2, [(0, 10)]),
        (10, 10, 2, [(0, 10)]),
        (7, 16, 2, [(0, 7)]),
        (10, 6, 2, [(0, 6), (4, 10)]),
        (11, 6, 2, [(0, 6), (4, 10), (5, 11)]),
        (11, 7, 2, [(0, 6), (4, 10), (5, 11)]),
        (9, 4, 0, [(0, 4), (4, 8), (5, 9)]),
    ],
)
def test_tiles_in_time_are_laid_as_published(count, frames, overlap, expected):
    laid = lay_out_frames(count, frames, overlap, 2)
    assert [(tile.start, tile.stop) for tile in laid] == expected


def test_frames_of_several_tiles_are_averaged():
    clip = torch.zeros(11, 1, 4, 4)
    restored = restore_clip(FrameNumbers(), clip, tiles=ClipTiles(frames=6))[:, 0, 0, 0]
    tiles = [(0, 6), (4, 10), (5, 11)]
    expected = [
        sum(frame - start for start, stop in tiles if start <= frame < stop) / sum(a <= frame < b for a, b in tiles)
        for frame in range(11)
    ]
    torch.testing.assert_close(restored, torch.tensor(expected))


@pytest.mark.parametrize("length", [20, 37])
def test_in_space_the_outer_half_of_the_overlap_is_cut_off(length):
    [rows, _] = (lay_out_tiles(length, 8, tile=16, overlap=8, size_multiple=4, clips=True).rows, None)
    weights = torch.zeros(length)
    for row in rows:
        assert set(row.weights.tolist()) == {1.0} or row.weights.unique().tolist() == [0.0, 1.0]
        weights[row.start : row.stop] += row.weights
    assert (weights == 1).all()
    first, second = rows[:2]
    start = int(second.source[0])
    used = [int(row.start + row.weights.nonzero()[0]) for row in (first, second)]
    assert used[1] == start + (16 - start) // 2


def test_what_a_frame_lacks_repeats_its_edge():
    [row] = lay_out_tiles(5, 8, tile=None, overlap=0, size_multiple=8, clips=True).rows
    assert row.source.tolist() == [0, 1, 2, 3, 4, 4, 3, 2]
    [row] = lay_out_tiles(5, 8, tile=None, overlap=0, size_multiple=8).rows
    assert row.source.tolist() == [0, 1, 2, 3, 4, 3, 2, 1]


def test_a_clip_that_lacks_frames_is_continued_by_its_last_ones_backwards():
    seen = []

    class Watched(ClipNetwork):
        frame_multiple = 4

        def forward(self, clip):
            seen.append(clip[0, :, 0, 0, 0])
            return super().forward(clip)

    clip = torch.arange(5.0)[:, None, None, None].expand(5, 3, 8, 8)
    assert restore_clip(Watched(), clip).shape == (5, 3, 8, 8)
    assert seen[0].tolist() == [0, 1, 2, 3, 4, 4, 3, 2]


@pytest.mark.parametrize("scale", [1, 2])
def test_tiles_give_what_the_whole_gives_where_the_network_sees_no_further_than_half_the_overlap(scale):
    net = ClipNetwork(scale)
    clip = torch.rand(12, 3, 40, 56, generator=torch.Generator().manual_seed(1))
    whole = restore_clip(net, clip)
    tiled = restore_clip(net, clip, tile=24, overlap=8)
    torch.testing.assert_close(whole, tiled)
    assert tiled.shape == (12, 3, 40 * scale, 56 * scale)
    in_time = restore_clip(net, clip, tile=24, overlap=8, tiles=ClipTiles(frames=6))
    torch.testing.assert_close(in_time[:3], whole[:3])


@pytest.mark.parametrize("first", range(11))
def test_what_is_resumed_is_what_would_have_come(first):
    net, clip = ClipNetwork(), torch.rand(11, 3, 16, 16)
    layout = lay_out_clip(net, 11, 16, 16, tile=None, overlap=0, tiles=ClipTiles(frames=4))
    calls = []
    read = lambda start, stop: clip[start:stop]  # noqa: E731
    parts = list(
        part.clone() for part in restore_frames(net, read, layout, first=first, progress=lambda *at: calls.append(at))
    )
    whole = restore_clip(net, clip, tiles=ClipTiles(frames=4))
    torch.testing.assert_close(torch.cat(parts), whole[first:], rtol=0, atol=0)
    assert len(calls) == sum(time.stop > first for time in layout.times)
    assert calls[-1] == (layout.num_tiles, layout.num_tiles)


def test_a_mirrored_clip_is_the_mean_of_both_ways():
    net, clip = ClipNetwork(), torch.rand(7, 3, 8, 8)
    both = net(torch.cat([clip, clip.flip(0)])[None])[0]
    expected = (both[:7] + both[7:].flip(0)) / 2
    torch.testing.assert_close(restore_clip(net, clip, tiles=ClipTiles(mirror=True)), expected)


def test_a_network_of_images_gets_one_frame_at_a_time():
    net = nn.Conv2d(3, 3, 3, padding=1)
    clip = torch.rand(3, 3, 9, 10)
    with torch.no_grad():
        torch.testing.assert_close(restore_clip(net, clip), torch.cat([net(frame[None]) for frame in clip]))
    tiles = {"tile": 8, "overlap": 2, "tiles": ClipTiles()}
    assert sample_in_tiles(net, clip[None], **tiles).shape == (1, 3, 3, 9, 10)
    assert sample_in_tiles(net, clip[:1], **tiles).shape == (1, 3, 9, 10)


@pytest.mark.parametrize("options", [{"frames": 2}, {"frame_overlap": -1}, {"frames": 8, "mirror": True}])
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ClipTiles(**options)


def test_too_few_frames_for_the_networks_multiple_are_refused():
    with pytest.raises(ValueError, match="must be at least 4"):
        lay_out_frames(10, 3, 2, 2)
