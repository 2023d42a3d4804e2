"""The options of the verbs that draw figures, with another value of each."""

from typing import Any

import nystra

KERNEL = nystra.Nystrom(4, 4)

FIGURES: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "figure attention": (
        {"image": ["in/a.png"], "pretrained": "swinir.pth", "kernels": [KERNEL], "size": 16},
        {
            "image": {"image": ["in/b.png"]},
            "pretrained": {"pretrained": "other.pth"},
            "network": {"network": "nowhere:make"},
            "window_size": {"window_size": 8},
            "kernels": {"kernels": []},
            "site": {"site": "*blocks.0*"},
            "pixel": {"pixel": (0, 0)},
            "heads": {"heads": [2]},
            "size": {"size": 8},
            "output": {"output": "other"},
        },
    ),
    "figure calibration": (
        {"images": ["in"], "pretrained": "glmha.pth", "size": 16},
        {
            "images": {"images": ["in/a.png"]},
            "pretrained": {"pretrained": "glmha_other.pth"},
            "blocks": {"blocks": 2},
            "size": {"size": 8},
            "title": {"title": "a network"},
            "output": {"output": "other"},
        },
    ),
    "figure crops": (
        {"versions": ["exact=in", "target=target"]},
        {
            "versions": {"versions": ["other=in", "target=target"]},
            "reference": {"reference": "target"},
            "names": {"names": ["b"]},
            "count": {"count": 1},
            "region": {"region": (1, 2, 8, 9)},
            "output": {"output": "other"},
        },
    ),
    "figure curves": (
        {"folders": ["runs"]},
        {
            "folders": {"folders": ["others"]},
            "tag": {"tag": "train/loss"},
            "title": {"title": "runs"},
            "output": {"output": "other"},
        },
    ),
    "figure quality": (
        {"results": ["compare.json"], "output": "quality"},
        {
            "results": {"results": ["compare.json", "bench.json"]},
            "cost": {"cost": "macs"},
            "quality": {"quality": "lost"},
            "title": {"title": "a network"},
            "output": {"output": "other"},
        },
    ),
    "figure tokens": (
        {"results": ["tokens8.json", "tokens16.json"]},
        {
            "results": {"results": ["tokens8.json", "tokens32.json"]},
            "title": {"title": "a bench"},
            "output": {"output": "other"},
        },
    ),
}
