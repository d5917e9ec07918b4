"""One class for both sides: shapes, symmetry, size, embedding, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from composing import composed
from pairs import pairs
from torch.utils.flop_counter import FlopCounterMode

from rb.errors import UserError
from rb.models.build import build_network
from rb.models.modern.network import StampNetwork
from rb.stamps.augment import DIHEDRAL, augment, turned
from rb.stamps.inputs import InputSpec

MODELS = (
    "dia_modern",
    "nodia_modern",
    "nodia_matched",
    "nodia_all",
    "dia_matched",
    "nodia_pixelwise",
)


def of_config(name: str, size: int = 51, **network) -> tuple[StampNetwork, InputSpec]:
    model = composed("train", f"model={name}", "trainer=modern")["model"]
    inputs = InputSpec.from_config(model["inputs"] | {"size": size, "psf_size": 21})
    torch.manual_seed(1)
    return build_network(model["network"] | network, inputs), inputs


def fed(inputs: InputSpec, n: int = 3) -> list[torch.Tensor]:
    x, side = pairs(n, size=inputs.size)
    if "diff" in inputs.channels:
        x = torch.cat([x[:, :1] - x[:, 1:], x], 1)
    return [x, side] if inputs.side else [x]


def flops(network, *tensors) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*(t[:1] for t in tensors))
    return counter.get_total_flops()


@pytest.mark.parametrize("size", [30, 51, 63])
@pytest.mark.parametrize("name", MODELS)
def test_any_size_gives_two_logits_and_gradients_everywhere(name, size):
    network, inputs = of_config(name, size)
    tensors = fed(inputs)
    logits = network.train()(*tensors)
    assert logits.shape == (3, 2)
    logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_scores_do_not_depend_on_how_a_stamp_is_turned(name):
    network, inputs = of_config(name)
    network = _shaken(network).eval()
    x, *side = fed(inputs)
    scores = network(x, *side).softmax(1)
    assert scores[:, 0].std() > 1e-4
    psfs = side[0][:, : 2 * 21**2].reshape(-1, 2, 21, 21) if side else None
    for element in DIHEDRAL:
        moved = side
        if psfs is not None:
            moved = [torch.cat([turned(psfs, element).flatten(1), side[0][:, 2 * 21**2 :]], 1)]
        torch.testing.assert_close(
            network(turned(x, element), *moved).softmax(1), scores, atol=2e-4, rtol=1e-3
        )
    network.tta = False
    assert (network(turned(x, DIHEDRAL[1]), *side).softmax(1) - scores).abs().max() > 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_planes_turn_with_the_stamps(name):
    network, inputs = of_config(name)
    x, *side = fed(inputs)
    planes, scalars = network.planes(x, *side)
    torch.manual_seed(3)
    moved = augment(x, side[0] if side else None, inputs.side)
    again, same = network.planes(*(part for part in moved if part is not None))
    torch.testing.assert_close(same, scalars, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        again.flatten(2).sort().values, planes.flatten(2).sort().values, atol=2e-3, rtol=2e-3
    )


@pytest.mark.parametrize("name", MODELS)
def test_one_look_costs_less_than_the_papers_dia_network(name):
    paper = composed("train", "model=dia")["model"]
    inputs = InputSpec.from_config(paper["inputs"])
    most = flops(build_network(paper["network"], inputs), torch.zeros(1, *inputs.shape))
    assert most == pytest.approx(55.6e6, rel=0.01)
    network, inputs = of_config(name, tta=False)
    # Fourier transforms are not counted: six of 64 x 64 px, two of both PSFs where planes are
    # whitened and two for each of these, 5 N log2 N each.
    white = sum(plane.startswith("white") for plane in network.planes.names)
    transforms = 6 + (2 + 2 * white if white else 0)
    ours = flops(network.eval(), *fed(inputs)) + transforms * 5 * 64**2 * 12
    assert ours < (0.85 if name == "nodia_all" else 0.8) * most
    if name == "nodia_pixelwise":
        assert ours < 32e6


def test_the_embedding_is_the_last_hidden_layer():
    network, inputs = of_config("nodia_matched", tta=False)
    tensors = fed(inputs)
    network.eval()
    _, embedding = network.with_embedding(*tensors)
    assert embedding.shape == (3, 64)
    torch.testing.assert_close(network.head(embedding), network(*tensors))
    network.tta = True
    assert network.with_embedding(*tensors)[1].shape == (3, 64)


def test_raw_units_do_not_matter():
    network, inputs = of_config("nodia_modern")
    network.eval()
    (x,) = fed(inputs)
    torch.testing.assert_close(network(3 * x + 50), network(x), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trunk": "forest"}, "model.network.trunk is 'forest'; choose residual or pixelwise"),
        ({"channels": ["srch"]}, "stacked in depth"),
        ({"side": ["psf"]}, "give both the same names"),
        ({"matching": ["zogy"]}, "give some of cross, fit, fit_all"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message) as refused:
        of_config("nodia_modern", **changes)
    assert "\n" not in str(refused.value)


def _shaken(network):
    """Blocks start as if they were not there; give them something to do."""
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return network


@pytest.mark.slow
def test_an_exported_graph_says_the_same(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    network, inputs = of_config("nodia_pixelwise", tta=False)
    network = _shaken(network).eval()
    tensors = fed(inputs, 4)
    n = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        network, tuple(tensors), dynamo=True, opset_version=18, verbose=False,
        input_names=["stamps", "side"], output_names=["logits"],
        dynamic_shapes={"x": {0: n}, "side": {0: n}},
    )  # fmt: skip
    # What not every engine has.
    assert not {"DFT", "STFT", "Loop", "Scan", "If"} & {n.op_type for n in program.model.graph}
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
    )
    for count in (1, 4):
        fed_ = {"stamps": tensors[0][:count].numpy(), "side": tensors[1][:count].numpy()}
        (logits,) = session.run(None, fed_)
        with torch.no_grad():
            wanted = network(*(t[:count] for t in tensors))
        torch.testing.assert_close(torch.from_numpy(logits), wanted, atol=2e-3, rtol=2e-3)
