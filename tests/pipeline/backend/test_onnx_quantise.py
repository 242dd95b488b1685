"""Ranges measured as a model denoises, and its UNet's graph in 8 bits, run by ONNX Runtime."""

import copy
import re
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from tiny_diffusion_models import SIDE, tiny_model

from lpnode.errors import HostError, InvalidArgument
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.model.load import load_model
from lpnode.model.place import SHIPPED_MODEL, find_model
from lpnode.pipeline.backend.agreement import agreement
from lpnode.pipeline.backend.calibration import eight_bit_layers, measure_ranges
from lpnode.pipeline.backend.denoising_samples import TIMESTEPS, run_unet, unseen_rows
from lpnode.pipeline.backend.engine_cache import BuildCancelled
from lpnode.pipeline.backend.engine_key import NetworkKind, Precision, ShapeProfile
from lpnode.pipeline.backend.onnx_quantise import QUANTISED_OPSET, quantise_network
from lpnode.pipeline.backend.onnx_trace import example_inputs, network_weights, trace_network
from lpnode.pipeline.backend.onnx_weights import TracedNetwork, write_network
from lpnode.pipeline.backend.onnxruntime_engine import OnnxRuntimeCompiler

SIZE = (SIDE, SIDE)
UNET = NetworkKind.UNET
EIGHT_BITS = [Precision.INT8, Precision.FP8]


def ranges_of(model: DiffusionModel, size: tuple[int, int] = SIZE) -> dict[str, float]:
    return measure_ranges(model, size, lambda _: None, threading.Event())


@cache
def traced(structure: str) -> TracedNetwork:
    return trace_network(tiny_model(structure), UNET, size=SIZE, opset=QUANTISED_OPSET)


def run_quantised(
    model: DiffusionModel,
    graph: TracedNetwork,
    ranges: Mapping[str, float],
    precision: Precision,
    inputs: dict[str, torch.Tensor],
    folder: Path,
) -> torch.Tensor:
    """What the engine of a quantised graph says."""
    quantised, weights = quantise_network(graph, network_weights(model, UNET), ranges, precision)
    path, _ = write_network(quantised, weights, folder / "unet.onnx")
    rows = len(inputs["sample"])
    profile = ShapeProfile(width=SIDE, height=SIDE, opt_rows=rows, max_rows=rows)
    compiler = OnnxRuntimeCompiler(1)
    compiler.compile(path, profile, precision, folder / "engine", lambda _: None)
    output = torch.empty_like(inputs["sample"])
    compiler.open(folder / "engine").run(inputs, output)
    return output


def relative_error(output: torch.Tensor, expected: torch.Tensor) -> float:
    return float((output - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def test_every_layer_inside_gets_a_range_and_none_at_the_ends_or_for_time_and_text() -> None:
    ranges = ranges_of(tiny_model())
    assert "down_blocks.0.resnets.0.conv1" in ranges
    assert "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k" in ranges
    assert not [
        name
        for name in ranges
        if re.search(r"conv_in|conv_out|time_|conv_shortcut|attn2\.to_[kv]", name)
    ]
    assert all(value > 0 for value in ranges.values())


def test_ranges_are_the_same_each_time_and_grow_with_what_enters() -> None:
    model = tiny_model()
    first = ranges_of(model)
    assert ranges_of(model) == first
    louder = tiny_model()
    louder.unet.get_submodule("down_blocks.0.resnets.0.norm1").weight.data.mul_(3)
    name = "down_blocks.0.resnets.0.conv1"
    assert ranges_of(louder)[name] > 2 * first[name]


def test_a_model_that_serves_is_not_watched_itself() -> None:
    model = tiny_model()
    seen = 0

    def progress(_: float) -> None:
        nonlocal seen
        seen += sum(len(layer._forward_pre_hooks) for layer in model.unet.modules())

    before = copy.deepcopy(model.unet.state_dict())
    measure_ranges(model, SIZE, progress, threading.Event())
    assert seen == 0
    assert all(torch.equal(before[name], one) for name, one in model.unet.state_dict().items())


def test_measuring_tells_how_far_it_is_and_can_be_stopped() -> None:
    stop, told = threading.Event(), list[float]()

    def progress(fraction: float) -> None:
        told.append(fraction)
        if len(told) == 3:
            stop.set()

    with pytest.raises(BuildCancelled, match="ranges for 8 bits"):
        measure_ranges(tiny_model(), SIZE, progress, stop)
    assert 0 < told[0] < told[1] < told[2] < 1


def test_a_model_that_computes_no_numbers_is_named_with_the_layer() -> None:
    model = tiny_model()
    model.unet.get_submodule("conv_in").weight.data.fill_(torch.nan)
    with pytest.raises(HostError, match=r"tiny-sd15: what enters the UNet's \S+ is nan, no number"):
        ranges_of(model)


def test_rows_to_try_an_engine_on_have_every_timestep_if_there_are_enough() -> None:
    inputs = unseen_rows(tiny_model(), SIZE, 16, torch.float16)
    assert set(inputs["timestep"].tolist()) == set(TIMESTEPS)
    assert inputs["timestep"].dtype is torch.float32
    assert inputs["sample"].dtype is inputs["encoder_hidden_states"].dtype is torch.float16
    assert len(unseen_rows(tiny_model(), SIZE, 3, torch.float32)["sample"]) == 3
    assert len(unseen_rows(tiny_model(), SIZE, 20, torch.float32)["sample"]) == 20


@pytest.mark.parametrize("precision", EIGHT_BITS)
def test_a_quantised_unet_runs_and_is_near_torch(precision: Precision, tmp_path: Path) -> None:
    model = tiny_model()
    inputs = unseen_rows(model, SIZE, 4, torch.float32)
    got = run_quantised(model, traced("sd15"), ranges_of(model), precision, inputs, tmp_path)
    error = relative_error(got, run_unet(model.unet, inputs))
    assert 1e-4 < error < 0.1  # rounded, and by no more than 8 bits need


@pytest.mark.parametrize("structure", ["sd21", "sdxl"])
def test_layers_of_other_families_are_found_too(structure: str, tmp_path: Path) -> None:
    model = tiny_model(structure)
    inputs = example_inputs(
        model, UNET, size=SIZE, rows=2, generator=torch.Generator().manual_seed(1)
    )
    ranges = dict.fromkeys(eight_bit_layers(model.unet), 6.0)
    for precision in EIGHT_BITS:
        got = run_quantised(
            model, traced(structure), ranges, precision, inputs, tmp_path / precision
        )
        # Neither weights nor ranges are of any denoising here.
        assert 1e-4 < relative_error(got, run_unet(model.unet, inputs)) < 0.2


@pytest.mark.parametrize(
    ("precision", "number"),
    [(Precision.INT8, onnx.TensorProto.INT8), (Precision.FP8, onnx.TensorProto.FLOAT8E4M3FN)],
)
def test_both_inputs_of_each_layer_are_8_bits_and_its_weight_is_one_byte_a_number(
    precision: Precision, number: int
) -> None:
    model = tiny_model()
    ranges = ranges_of(model)
    quantised, _ = quantise_network(traced("sd15"), network_weights(model, UNET), ranges, precision)
    graph = quantised.graph.graph
    stored = {one.name: one.data_type for one in graph.initializer}
    from_node = {node.output[0]: node for node in graph.node}
    found = set()
    for node in graph.node:
        given = [from_node.get(name) for name in node.input[:2]]
        if node.op_type in ("Conv", "MatMul", "Gemm") and given[1] is not None:
            if given[1].op_type != "DequantizeLinear":
                continue
            assert given[0] is not None
            quantise = from_node[given[0].input[0]]
            assert (given[0].op_type, quantise.op_type) == ("DequantizeLinear", "QuantizeLinear")
            assert stored[quantise.input[2]] == stored[given[1].input[0]] == number
            found.add(given[1].input[0])
    assert found == {f"unet.{layer}.weight" for layer in ranges}


def test_weights_have_a_scale_for_each_channel_with_int8_and_one_with_fp8() -> None:
    model = tiny_model()
    ranges, floats = ranges_of(model), network_weights(model, UNET)
    names = [f"unet.{layer}.weight" for layer in ranges]
    for precision, largest in ((Precision.INT8, 127.0), (Precision.FP8, 448.0)):
        _, weights = quantise_network(traced("sd15"), floats, ranges, precision)
        for name in names:
            scales, weight = weights[f"{name}.scale"], weights[name].float()
            is_turned = floats[name].dim() == 2
            weight = weight.T if is_turned else weight
            assert scales.shape == ((len(weight),) if precision is Precision.INT8 else ())
            assert float(weight.abs().max()) == largest
            step = scales.reshape(-1, *[1] * (weight.dim() - 1))
            assert relative_error(weight * step, floats[name]) < 0.05
        assert weights["unet.conv_in.weight"] is floats["unet.conv_in.weight"]
        assert len(weights) == len(list(weights)) == len(floats) + len(names)


def test_layers_with_one_input_share_its_rounding() -> None:
    model = tiny_model()
    quantised, _ = quantise_network(
        traced("sd15"), network_weights(model, UNET), ranges_of(model), Precision.INT8
    )
    inputs = [n.input[0] for n in quantised.graph.graph.node if n.op_type == "QuantizeLinear"]
    assert len(inputs) == len(set(inputs)) < len(ranges_of(model))


def test_what_cannot_be_quantised_is_refused() -> None:
    model = tiny_model()
    weights = network_weights(model, UNET)
    with pytest.raises(InvalidArgument, match="to int8 and fp8, not unet to fp16"):
        quantise_network(traced("sd15"), weights, {}, Precision.FP16)
    old = copy.deepcopy(traced("sd15").graph)
    old.opset_import[0].version = 17
    with pytest.raises(InvalidArgument, match="need a graph of opset 19, got 17"):
        quantise_network(TracedNetwork(UNET, old, torch.float32), weights, {}, Precision.INT8)
    with pytest.raises(HostError, match=r"no layer of the weights unet\.lost\.weight"):
        quantise_network(traced("sd15"), weights, {"lost": 1.0}, Precision.INT8)


def test_an_engine_of_8_bits_is_not_made_of_a_graph_without(tmp_path: Path) -> None:
    path, _ = write_network(traced("sd15"), network_weights(tiny_model(), UNET), tmp_path / "a")
    profile = ShapeProfile(width=SIDE, height=SIDE, opt_rows=1, max_rows=1)
    with pytest.raises(InvalidArgument, match="a must have QuantizeLinear nodes that give fp8"):
        OnnxRuntimeCompiler(1).compile(
            path, profile, Precision.FP8, tmp_path / "engine", lambda _: None
        )


def test_the_shipped_models_unet_loses_little_with_8_bits(tmp_path: Path) -> None:
    """Measured when this was written: 48 dB with int8 and 46 dB with fp8, 50 dB each at 128x128."""
    model = load_model(find_model(SHIPPED_MODEL, tmp_path))
    ranges = ranges_of(model)
    graph = trace_network(model, UNET, size=SIZE, opset=QUANTISED_OPSET)
    inputs = unseen_rows(model, SIZE, 16, torch.float32)
    expected = run_unet(model.unet, inputs)
    for precision in EIGHT_BITS:
        got = run_quantised(model, graph, ranges, precision, inputs, tmp_path / precision)
        psnr_db = agreement([got], [expected]).psnr_db
        print(f"{precision}: {psnr_db:.1f} dB, {relative_error(got, expected):.3f} of its size")
        assert 40 < psnr_db < 70
