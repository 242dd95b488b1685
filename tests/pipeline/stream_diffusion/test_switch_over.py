"""Frames as graphs while engines get ready, of one size after the other."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusion_studio import WatchedNetworks
from tiny_diffusion_models import SIDE, tiny_model

from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_build import BuildPhase, BuildReport, EngineBuilder
from lpnode.pipeline.backend.engine_cache import EngineCache, EngineCacheConfig
from lpnode.pipeline.backend.engine_key import NetworkKind, Precision
from lpnode.pipeline.backend.engine_networks import EngineNetworks
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.onnxruntime_engine import OnnxRuntimeCompiler
from lpnode.pipeline.backend.switchable_networks import SwitchableNetworks
from lpnode.pipeline.backend.torch_networks import TorchNetworks
from lpnode.pipeline.open_model import OpenModel
from lpnode.pipeline.pipeline import FrameJob
from lpnode.pipeline.stream_diffusion.params import SmallStreamDiffusionParams
from lpnode.pipeline.stream_diffusion.pipeline import StreamDiffusion
from lpnode.pipeline.stream_diffusion.served_model import ServedModel

LARGE = 2 * SIDE
CAPTURED, REPLAYED = 3, 1
"""UNet calls of a frame: two warm-ups before a graph is captured, and the frame's own."""


@dataclass(frozen=True, slots=True)
class TorchRunner:
    """One network of torch's in the form of an engine."""

    kind: NetworkKind
    networks: TorchNetworks

    def run(self, inputs: Mapping[str, torch.Tensor], output: torch.Tensor) -> None:
        match self.kind:
            case NetworkKind.VAE_ENCODER:
                result = self.networks.encode(inputs["images"])
            case NetworkKind.VAE_DECODER:
                result = self.networks.decode(inputs["latent"])
            case NetworkKind.UNET:
                conditioning = Conditioning(inputs["encoder_hidden_states"])
                result = self.networks.predict(inputs["sample"], inputs["timestep"], conditioning)
        output.copy_(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedBuilder(EngineBuilder):
    """Builds engines of torch in no time, when a test lets it."""

    gates: Mapping[int, threading.Event] = field(
        default_factory=lambda: {SIDE: threading.Event(), LARGE: threading.Event()}
    )
    networks: WatchedNetworks

    def build(
        self,
        model: DiffusionModel,
        shapes: NetworkShapes,
        report: BuildReport,
        stop: threading.Event,
    ) -> EngineNetworks:
        self.gates[shapes.width].wait()
        runners = {kind: TorchRunner(kind, self.networks) for kind in NetworkKind}
        return EngineNetworks(
            model.traits, shapes, runners, device=self.device, dtype=torch.float32
        )


def watched(model: DiffusionModel) -> WatchedNetworks:
    networks = WatchedNetworks()
    networks.rows = []
    networks.load(model)
    return networks


async def test_graphs_of_each_size_are_captured_anew_when_its_own_engines_are_ready(
    tmp_path: Path,
) -> None:
    model = tiny_model()
    fallback, engines = watched(model), watched(model)
    builder = GatedBuilder(
        cache=EngineCache(EngineCacheConfig(folder=tmp_path)),
        compiler=OnnxRuntimeCompiler(1),
        device=torch.device("cpu"),
        precision=Precision.FP32,
        networks=engines,
    )
    networks = SwitchableNetworks(fallback, builder)
    networks.load(model)
    pipeline = StreamDiffusion(
        ServedModel(
            open_model=lambda *_: OpenModel(model, networks),
            names=("small",),
            device="cpu",
            params=SmallStreamDiffusionParams,
            defaults={"prompt": "a", "t_index_list": [32]},
            uses_graphs=True,
        )
    )
    streams = {
        side: pipeline.prepare(pipeline.parse({"width": side, "height": side, "cfg_type": "none"}))
        for side in (SIDE, LARGE)
    }

    def calls_of_a_frame(side: int) -> tuple[int, int]:
        """UNet calls of the fallback and of engines."""
        for one in (fallback, engines):
            one.rows.clear()
        frame = pipeline.input_buffer(side, side)[0]
        pipeline.run([FrameJob(streams[side], frame, 0)])
        return len(fallback.rows), len(engines.rows)

    async def ready(side: int) -> None:
        builder.gates[side].set()
        while networks.states[side, side].phase is not BuildPhase.READY:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    building = asyncio.create_task(networks.run())
    try:
        assert calls_of_a_frame(SIDE) == calls_of_a_frame(LARGE) == (CAPTURED, 0)
        assert calls_of_a_frame(SIDE) == calls_of_a_frame(LARGE) == (REPLAYED, 0)
        await ready(SIDE)
        assert calls_of_a_frame(SIDE) == (0, CAPTURED)
        assert calls_of_a_frame(SIDE) == (0, REPLAYED)
        assert calls_of_a_frame(LARGE) == (REPLAYED, 0)
        await ready(LARGE)
        assert calls_of_a_frame(LARGE) == (0, CAPTURED)
        assert calls_of_a_frame(LARGE) == (0, REPLAYED)
        assert calls_of_a_frame(SIDE) == (0, REPLAYED)
        # The same shapes are not built for twice; other weights are.
        shapes = NetworkShapes(width=SIDE, height=SIDE, max_images=8, max_rows=16)
        networks.prepare(shapes)
        assert networks.states[SIDE, SIDE].phase is BuildPhase.READY
        networks.update(model)
        await ready(SIDE)
        assert calls_of_a_frame(SIDE) == (0, CAPTURED)
    finally:
        for gate in builder.gates.values():
            gate.set()
        building.cancel()
        with suppress(asyncio.CancelledError):
            await building
