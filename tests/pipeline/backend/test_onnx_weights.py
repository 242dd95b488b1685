"""Graphs and weights on disk, whole or not at all."""

import threading
import warnings
from functools import cache
from pathlib import Path

import pytest
from tiny_diffusion_models import tiny_model

from lpnode.errors import HostError
from lpnode.pipeline.backend.engine_cache import BuildCancelled
from lpnode.pipeline.backend.engine_key import NetworkKind
from lpnode.pipeline.backend.onnx_trace import network_weights, trace_network
from lpnode.pipeline.backend.onnx_weights import TracedNetwork, fitting_weights, write_network

ENCODER = NetworkKind.VAE_ENCODER


@cache
def traced() -> TracedNetwork:
    return trace_network(tiny_model(), ENCODER)


def test_weights_that_are_as_the_graph_wants_them_are_not_copied() -> None:
    weights = network_weights(tiny_model(), ENCODER)
    fitting = dict(fitting_weights(traced(), weights))
    assert fitting.keys() == set(traced().weight_names)
    assert all(fitting[name].data_ptr() == weights[name].data_ptr() for name in fitting)


def test_an_export_says_nothing_and_leaves_two_files(tmp_path: Path) -> None:
    model = tiny_model()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_network(
            trace_network(model, ENCODER), network_weights(model, ENCODER), tmp_path / "vae.onnx"
        )
    assert not caught
    assert {file.name for file in tmp_path.iterdir()} == {"vae.onnx", "vae.onnx.weights"}


def test_weights_of_another_network_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    weights = network_weights(tiny_model("sd15-kl"), ENCODER)
    with pytest.raises(
        HostError, match=r"vae_encoder: expected vae\.\S+ of shape .* another network"
    ):
        write_network(traced(), weights, tmp_path / "vae.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(HostError, match=r"taken.*cannot write the exported network"):
        write_network(
            traced(), network_weights(tiny_model(), ENCODER), tmp_path / "taken" / "vae.onnx"
        )


class StopAtSecondLook(threading.Event):
    """Is set from the second time on that somebody looks."""

    num_looks = 0

    def is_set(self) -> bool:
        self.num_looks += 1
        return self.num_looks > 1


def test_a_stopped_export_writes_no_more_weights(tmp_path: Path) -> None:
    stop = StopAtSecondLook()
    weights = network_weights(tiny_model(), ENCODER)
    with pytest.raises(BuildCancelled, match="exported"):
        write_network(traced(), weights, tmp_path / "vae.onnx", stop=stop)
    assert stop.num_looks == 2
    assert not list(tmp_path.iterdir())
