"""Networks written for other runtimes, and what runs there."""

import dataclasses
import itertools
import json

import pytest
import torch

import trainers
from tests.trainers.runtimes.networks import CHANNEL, KERNELS, ONE_SIZE, make
from trainers.runtimes import export as module
from trainers.runtimes.description import KEY, Description, graph_sides
from trainers.runtimes.graph import checked_sizes, recorded_size, sample
from trainers.runtimes.running import load_graph

SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2", "aot": ".pt2"}
EVERY = [
    *itertools.product(("Restormer", "MST", "MST++"), CHANNEL),
    *itertools.product(("SwinIR", "Uformer", "DehazeFormer"), KERNELS),
]
# Refused at any size: the graph fails in its runtime, or differs.
OF_ONE_SIZE = [
    ("SwinIR", "uneven cells"),
    ("SwinIR", "ContentPooling"),
    ("DehazeFormer", "ContentPooling"),
    ("DehazeFormer", "Nystrom"),
    ("Uformer", "published"),
]
# Of each kind of network one, and each way of a kernel's.
FEW = [
    ("MST++", "GLMHA", "onnx", {"pad": True}),
    ("SwinIR", "LandmarkPooling", "openvino", {}),
    ("DehazeFormer", "Softmax", "onnx", {"freeze_bias": False}),
]


def exported(net, folder, format, **options):
    return trainers.export(net, folder / f"net{SUFFIX[format]}", format=format, **options)


@pytest.mark.parametrize(("host", "attention", "format", "options"), FEW)
def test_a_graph_takes_images_of_sizes_that_were_not_recorded(host, attention, format, options, tmp_path):
    net = make(host, attention)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    graph = exported(net, tmp_path, format, **options)
    assert graph.difference <= 1e-5
    assert recorded_size(graph.description) not in [size[1:] for size in graph.sizes]
    assert {path.suffix for path in tmp_path.iterdir()} == ({".xml", ".bin"} if format == "openvino" else {".onnx"})
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    loaded = load_graph(graph.path)
    assert loaded.description == graph.description
    image = sample(graph.description, graph.sizes[0][1:], 1, seed=7)
    if not options.get("pad"):
        with torch.no_grad():
            expected = net(image)
        assert (loaded(image) - expected).abs().max() <= 1e-5 * (expected.max() - expected.min())


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize(("host", "attention"), EVERY)
def test_every_network_is_written_with_every_attention(host, attention, format, tmp_path):
    if attention == "ContentPooling" and host == "Uformer":
        pytest.skip("a minute each; SwinIR and DehazeFormer have it")
    if (host, attention) in OF_ONE_SIZE:
        pytest.xfail("its graph is right at the recorded size alone")
    options = {"size": (64, 32)} if attention in ONE_SIZE else {}
    assert exported(make(host, attention), tmp_path, format, **options).difference <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "attention", "options"),
    [
        ("Restormer", "GLMHA", {}),
        ("MST++", "CSA", {}),
        ("MST++", "GLMHA", {"pad": True, "size": (13, 20)}),
        ("SwinIR", "LandmarkPooling", {}),
        ("Uformer", "Softmax", {}),
        ("DehazeFormer", "Softmax", {}),
    ],
)
def test_a_program_of_torch_takes_every_size(host, attention, options, tmp_path):
    assert exported(make(host, attention), tmp_path, "torch-export", **options).difference <= 1e-5


@pytest.mark.slow
def test_a_program_of_one_size_is_restored_from(tmp_path):
    net = make("MST++", "Performer")
    path = tmp_path / "net.pt2"
    assert trainers.export(net, path, size=(16, 16)).difference <= 1e-5
    loaded = load_graph(path)
    assert loaded.takes(16)
    assert not loaded.takes(24)
    assert loaded.largest_side == 16


@pytest.mark.slow
def test_compiled_code_tells_of_itself_and_is_not_restored_from(tmp_path):
    graph = exported(make("MST++", "CSA"), tmp_path, "aot", size=(16, 16))
    assert graph.difference <= 1e-5
    told = torch._inductor.aoti_load_package(str(graph.path)).get_metadata()[KEY]
    assert Description.decoded(told) == graph.description
    with pytest.raises(ValueError, match=r"holds compiled code \(aot\)"):
        load_graph(graph.path)


@pytest.mark.parametrize("attention", ONE_SIZE)
def test_random_directions_are_of_one_size(attention, tmp_path):
    with pytest.raises(ValueError, match="must be given"):
        exported(make("MST++", attention), tmp_path, "onnx")


@pytest.mark.parametrize("broken", [lambda run: lambda x: run(x) * 1.001, lambda run: lambda x: run(x) / 0])
def test_a_graph_that_differs_leaves_no_file(broken, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "read_graph", lambda path: broken(load_graph(path)))
    with pytest.raises(ValueError, match="was not written: in its runtime the graph differs"):
        exported(make("MST++", "CSA"), tmp_path, "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("precision", "remedy"), [("float32", "$"), ("bfloat16", "choose precision float32")])
def test_what_a_runtime_cannot_hold_is_told(precision, remedy, tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no such type\nand more")

    monkeypatch.setitem(module.WRITERS, "onnx", refuse)
    with pytest.raises(ValueError, match=rf"in {precision}, got from its runtime: no such type.*{remedy}"):
        exported(make("MST++", "CSA"), tmp_path, "onnx", precision=precision)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["onnxruntime", "onnx", "openvino"])
def test_a_missing_library_is_named(library, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.runtimes.running.find_spec", lambda name: None if name == library else name)
    format = "openvino" if library == "openvino" else "onnx"
    with pytest.raises(ValueError, match=rf"{library}, not found .* pip install lowrank-attention\[export\]"):
        exported(make("MST++", "CSA"), tmp_path, format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onnx"}, "must end in .onnx"),
        ({"size": (63, 64)}, "must be of multiples of 8 that the network takes; or add padding"),
        ({"format": "tflite"}, "must be one of torch-export"),
        ({"pad": True}, "lowrank restore pads to what the file states; or give size"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainers.export(make("MST++", "CSA"), tmp_path / "net.pt2", **options)


@pytest.mark.parametrize(("host", "attention"), EVERY)
def test_a_description_tells_of_the_network(host, attention):
    description = Description.of(make(host, attention), format="onnx", size=None, precision="float32", pad=False)
    assert Description.decoded(description.encoded()) == description
    assert description.least >= 2 * description.size_multiple
    program = Description.of(make(host, attention), format="torch-export", size=None, precision="float32", pad=False)
    assert program.least >= description.least
    assert all(side % description.size_multiple == 0 for size in checked_sizes(description) for side in size[1:])
    if attention not in ("CSA", "Softmax"):
        assert "class" in json.dumps(description.attention)


@pytest.mark.parametrize(
    ("host", "window", "format", "size", "expected"),
    [
        ("SwinIR", 8, "onnx", None, (8, 16)),
        ("SwinIR", 12, "onnx", None, (12, 24)),
        ("SwinIR", 8, "torch-export", None, (8, 24)),
        ("SwinIR", 8, "onnx", (20, 30), (1, 1)),
        ("Uformer", 4, "openvino", None, (64, 128)),
        ("Uformer", 16, "openvino", None, (256, 512)),
        ("Uformer", 16, "onnx", (64, 64), (64, 64)),
        ("DehazeFormer", 8, "onnx", None, (1, 32)),
        ("DehazeFormer", 16, "onnx", None, (1, 64)),
        ("DehazeFormer", 8, "torch-export", None, (32, 96)),
    ],
)
def test_a_graph_takes_images_of_whole_windows_at_every_level(host, window, format, size, expected):
    net = make(host, "Softmax")
    net.set_window(window)
    assert graph_sides(net, format, size) == expected
    assert all(net.takes(side) for side in (expected[1], expected[1] + 3 * expected[0]))


@pytest.mark.parametrize(
    "change", [{"channels": 0}, {"size": [8]}, {"scale": "2"}, {"precision": "int8"}, {"new": 1}, {"value_range": 1}]
)
def test_a_description_that_is_none_is_refused(change):
    description = Description.of(make("MST++", "CSA"), format="onnx", size=None, precision="float32", pad=False)
    content = {**json.loads(description.encoded()), **change}
    with pytest.raises(ValueError, match=KEY):
        Description.decoded(json.dumps(content))


@pytest.mark.parametrize("multiple", [1, 4, 7, 8, 12, 28])
@pytest.mark.parametrize("windows", [2, 3])
def test_recorded_and_compared_sizes_are_those_that_the_graph_takes(multiple, windows):
    description = Description.of(make("MST++", "CSA"), format="onnx", size=None, precision="float32", pad=False)
    description = dataclasses.replace(description, size_multiple=multiple, least=windows * multiple)
    for size in (recorded_size(description), *(size[1:] for size in checked_sizes(description))):
        assert all(side % multiple == 0 and side >= description.least for side in size)
