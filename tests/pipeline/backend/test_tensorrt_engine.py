"""TensorRT: what can be known of it without it, and on hardware what it builds and runs."""

import importlib.util
import pickle
from pathlib import Path

import pytest
import torch

from lpnode._native import diffusion
from lpnode.errors import ConfigError, HostError, InvalidArgument, NotBuilt
from lpnode.pipeline.backend.engine_key import Precision, ShapeProfile
from lpnode.pipeline.backend.tensorrt_engine import (
    GIB,
    TensorRtCompiler,
    require_precision,
    workspace_bytes,
)
from lpnode.pipeline.backend.tensorrt_progress import BuildPhases

HAS_TENSORRT = diffusion.has_tensorrt() and importlib.util.find_spec("tensorrt") is not None
needs_tensorrt = pytest.mark.skipif(not HAS_TENSORRT, reason="TensorRT is missing")

PROFILE = ShapeProfile(width=128, height=128, opt_rows=2, max_rows=4)


@pytest.mark.skipif(HAS_TENSORRT, reason="TensorRT is there")
def test_without_tensorrt_the_compiler_says_how_to_get_it() -> None:
    with pytest.raises(NotBuilt, match="LPNODE_TENSORRT=ON"):
        _ = TensorRtCompiler().version
    with pytest.raises(NotBuilt, match="LPNODE_TENSORRT=ON"):
        TensorRtCompiler().open(Path("engine"))


def test_a_compiler_goes_to_the_process_that_it_works_in() -> None:
    compiler = TensorRtCompiler(device=1, level=5, timing_cache=Path("timings"))
    assert pickle.loads(pickle.dumps(compiler)) == compiler


def test_the_workspace_is_what_is_free_but_for_4_gib_where_more_than_6_are() -> None:
    assert workspace_bytes(6 * GIB) is None
    assert workspace_bytes(6 * GIB + 1) == 2 * GIB + 1
    assert workspace_bytes(80 * GIB) == 76 * GIB


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6)])
def test_fp8_is_refused_where_the_chip_has_it_not(capability: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument, match=r"capability 8\.9 or newer, this one has"):
        require_precision(Precision.FP8, capability)
    require_precision(Precision.INT8, capability)


@pytest.mark.parametrize("capability", [(8, 9), (9, 0), (12, 0)])
def test_fp8_is_taken_where_the_chip_has_it(capability: tuple[int, int]) -> None:
    require_precision(Precision.FP8, capability)


def test_a_level_that_tensorrt_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 to 5, got 6"):
        TensorRtCompiler(level=6)


def test_progress_counts_phases_within_steps_and_never_goes_back() -> None:
    told: list[float] = []
    phases = BuildPhases(told.append)
    phases.start("build", None, 4)
    phases.step("build", 0)
    phases.start("time kernels", "build", 2)
    phases.step("time kernels", 0)
    phases.step("time kernels", 1)
    phases.finish("time kernels")
    phases.step("build", 1)
    phases.start("time kernels", "build", 10)
    phases.step("time kernels", 4)
    phases.finish("time kernels")
    phases.finish("build")
    assert told == [0.25, 0.375, 0.5, 0.5, 0.5, 0.625, 0.75, 1.0]


class Blend(torch.nn.Module):
    """Two layers that no compiler can leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(4, 32, 3, padding=1)
        self.second = torch.nn.Conv2d(32, 4, 3, padding=1)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(torch.nn.functional.silu(self.first(sample)))
        return out


def built(folder: Path, compiler: TensorRtCompiler) -> tuple[Blend, list[float]]:
    torch.manual_seed(1)
    network = Blend().cuda().half().eval()
    onnx = folder / "blend.onnx"
    torch.onnx.export(
        network,
        (torch.zeros(2, 4, 16, 16, device="cuda", dtype=torch.float16),),
        str(onnx),
        dynamo=False,
        opset_version=17,
        input_names=["sample"],
        output_names=["latent"],
        dynamic_axes={"sample": {0: "rows"}, "latent": {0: "rows"}},
    )
    told: list[float] = []
    compiler.compile(onnx, PROFILE, Precision.FP16, folder / "engine", told.append)
    return network, told


@pytest.mark.gpu
@needs_tensorrt
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_engine_agrees_with_torch_for_every_number_of_rows(tmp_path: Path) -> None:
    compiler = TensorRtCompiler(timing_cache=tmp_path / "timings")
    network, told = built(tmp_path, compiler)
    assert told[-1] == pytest.approx(1.0)
    assert (tmp_path / "timings").stat().st_size > 0
    runner = compiler.open(tmp_path / "engine")
    side = torch.cuda.Stream()
    for rows in (1, 4, 2, 3):
        sample = torch.randn(rows, 4, 16, 16, device="cuda", dtype=torch.float16)
        output = torch.empty_like(sample)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(5):  # runs twice, is captured, and is replayed
                output.zero_()
                runner.run({"sample": sample}, output)
        side.synchronize()
        with torch.inference_mode():
            torch.testing.assert_close(output, network(sample), atol=2e-3, rtol=2e-3)
    with pytest.raises(InvalidArgument, match="sample must be"):
        runner.run({"sample": torch.zeros(5, 4, 16, 16, device="cuda").half()}, output)


@pytest.mark.gpu
@needs_tensorrt
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_engine_is_recorded_in_a_graph_around_the_whole_frame(tmp_path: Path) -> None:
    compiler = TensorRtCompiler()
    network, _ = built(tmp_path, compiler)
    runner = compiler.open(tmp_path / "engine")
    sample = torch.randn(2, 4, 16, 16, device="cuda", dtype=torch.float16)
    output = torch.empty_like(sample)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode():
        with torch.cuda.stream(side):
            runner.run({"sample": sample * 2}, output)
        side.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            runner.run({"sample": sample * 2}, output)
        for _ in range(3):
            sample.normal_()
            graph.replay()
            torch.testing.assert_close(output, network(sample * 2), atol=2e-3, rtol=2e-3)


@pytest.mark.gpu
@needs_tensorrt
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_graph_of_another_precision_than_its_key_is_refused(tmp_path: Path) -> None:
    compiler = TensorRtCompiler()
    built(tmp_path, compiler)
    for precision, what in ((Precision.FP32, "an output of fp32"), (Precision.INT8, "Quantize")):
        with pytest.raises(InvalidArgument, match=what):
            compiler.compile(
                tmp_path / "blend.onnx", PROFILE, precision, tmp_path / "other", lambda _: None
            )


@pytest.mark.gpu
@needs_tensorrt
def test_a_file_that_is_no_graph_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(HostError, match=r"does not take broken\.onnx"):
        TensorRtCompiler().compile(
            tmp_path / "broken.onnx", PROFILE, Precision.FP16, tmp_path / "engine", lambda _: None
        )
