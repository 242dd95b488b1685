"""Which backend is taken, on real networks: what is asked for, what is fastest, what agrees."""

import logging
import math
import sys
from pathlib import Path

import pytest
import torch
from tiny_diffusion_models import graphs_of, tiny_model

from lpnode.errors import ConfigError
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend import choice
from lpnode.pipeline.backend.agreement import SampleFrame, agreement
from lpnode.pipeline.backend.choice import Choice, choose_networks
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.backend.onnxruntime_networks import OnnxRuntimeNetworks
from lpnode.pipeline.backend.torch_networks import TorchNetworks

SHAPES = NetworkShapes(width=64, height=64, max_images=2, max_rows=4)


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(choice, "GraphCache", lambda: graphs_of("sd15"))


def chosen(folder: Path, wanted: str = "auto") -> Choice:
    """Chooses, and checks that what was chosen runs the model as torch does."""
    model = tiny_model()
    result = choose_networks(
        model, device="cpu", dtype=torch.float32, shapes=SHAPES, wanted=wanted, folder=folder
    )
    reference = TorchNetworks()
    reference.load(model)
    frame = SampleFrame(model, SHAPES, 3)
    assert agreement(frame.run(result.networks), frame.run(reference)).max_error < 1e-4
    return result


def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)


def test_the_fastest_backend_that_agrees_is_taken_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choice, "_thread_counts", lambda: (2, 1))
    with caplog.at_level(logging.INFO):
        result = chosen(tmp_path)
    tried = [(one.name, one.num_threads) for one in result.figures]
    assert tried[1:] == [("openvino", 2), ("openvino", 1), ("onnxruntime", 2), ("onnxruntime", 1)]
    assert tried[0][0] == "torch"
    fastest = min(result.figures, key=lambda one: one.frame_s or math.inf)
    assert result.networks.name == fastest.name
    (record,) = (one for one in caplog.records if one.name.startswith("lpnode"))
    assert record.levelno == logging.INFO
    text = record.getMessage()
    assert f"runs on {fastest.name} with {fastest.num_threads} threads: " in text
    assert all(one.name in text for one in result.figures)


@pytest.mark.parametrize("wanted", ["torch", "none", "xformers"])
def test_torch_is_taken_by_its_names_without_measuring(tmp_path: Path, wanted: str) -> None:
    result = chosen(tmp_path, wanted)
    assert isinstance(result.networks, TorchNetworks)
    assert not result.figures


def test_a_backend_that_is_asked_for_is_taken_whatever_the_figures(tmp_path: Path) -> None:
    result = chosen(tmp_path, "onnxruntime")
    assert result.networks.name == "onnxruntime"
    assert {one.name for one in result.figures} == {"torch", "onnxruntime"}


def test_a_missing_backend_is_told_with_the_fix_and_the_next_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_openvino(monkeypatch)
    result = chosen(tmp_path, "openvino")
    assert result.networks.name in ("torch", "onnxruntime")
    (warning,) = (one for one in caplog.records if one.levelno == logging.WARNING)
    assert "no openvino" in warning.getMessage()
    assert "pip install 'lpnode[openvino]'" in warning.getMessage()


def test_a_backend_that_fails_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file")
    result = chosen(tmp_path / "taken")
    assert result.networks.name in ("torch", "onnxruntime")
    (failed,) = (one for one in result.figures if one.name == "openvino")
    assert "taken: cannot write networks there" in failed.problem
    assert failed.frame_s is None
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_a_backend_that_computes_something_else_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OfOtherWeights(OnnxRuntimeNetworks):
        def load(self, model: DiffusionModel) -> None:
            super().load(tiny_model(seed=5))

    without_openvino(monkeypatch)
    monkeypatch.setattr(choice, "OnnxRuntimeNetworks", OfOtherWeights)
    result = chosen(tmp_path)
    assert result.networks.name == "torch"
    assert result.figures[-1].problem.startswith("differs from torch by ")
    assert result.figures[-1].agreement is not None


@pytest.mark.parametrize("wanted", ["compiled", "tensorrt"])
def test_a_backend_of_another_device_is_told_and_the_next_is_taken(
    tmp_path: Path, wanted: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_openvino(monkeypatch)
    assert chosen(tmp_path, wanted).figures
    (warning,) = (one for one in caplog.records if one.levelno == logging.WARNING)
    assert f"the backend {wanted} runs on a CUDA device" in warning.getMessage()


@pytest.mark.parametrize("wanted", ["auto", "openvino"])
def test_bfloat16_is_torch_s_alone_and_frames_stay_float32(
    tmp_path: Path, wanted: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = choose_networks(
        tiny_model(),
        device="cpu",
        dtype=torch.float32,
        weights_dtype=torch.bfloat16,
        shapes=SHAPES,
        wanted=wanted,
        folder=tmp_path,
    )
    assert isinstance(result.networks, TorchNetworks)
    assert result.networks.dtype == torch.float32
    assert not result.figures
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == (wanted != "auto")
    assert all("openvino computes in float32, and torch.bfloat16 was" in text for text in warnings)


def test_a_name_that_no_backend_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'onnx'; choose one of auto, torch, .*xformers"):
        chosen(tmp_path, "onnx")


def test_what_bfloat16_computes_does_not_agree() -> None:
    model = tiny_model()
    frame = SampleFrame(model, SHAPES, 2)
    networks = TorchNetworks()
    networks.load(model)
    expected = tuple(output.clone() for output in frame.run(networks))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = [output.float() for output in frame.run(networks)]
    assert agreement(expected, expected).is_good
    assert not agreement(rounded, expected).is_good


def test_outputs_that_are_not_finite_do_not_agree() -> None:
    expected = torch.rand(4)
    assert not agreement([expected / 0.0], [expected]).is_good
    assert not agreement([torch.full((4,), math.nan)], [expected]).is_good
