"""Engines built behind a running stream, with ONNX Runtime as the compiler."""

import asyncio
import dataclasses
import logging
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from tiny_diffusion_models import NUM_TOKENS, SIDE, TEXT_WIDTH, tiny_model

from lpnode.config import Address, NodeConfig
from lpnode.errors import HostError, InvalidArgument
from lpnode.node import Node
from lpnode.pipeline.backend.child_work import run_in_child
from lpnode.pipeline.backend.engine_build import BuildPhase, BuildState, EngineBuilder
from lpnode.pipeline.backend.engine_cache import BuildCancelled, EngineCache, EngineCacheConfig
from lpnode.pipeline.backend.engine_compiler import Compilation
from lpnode.pipeline.backend.engine_key import EngineKey, Precision, ShapeProfile
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.onnx_weights import TracedNetwork
from lpnode.pipeline.backend.onnxruntime_engine import OnnxRuntimeCompiler
from lpnode.pipeline.backend.switchable_networks import SwitchableNetworks
from lpnode.pipeline.backend.torch_networks import TorchNetworks
from lpnode.pipeline.catalog import Catalog
from lpnode.pipeline.open_model import OpenModel
from lpnode.pipeline.stream_diffusion.params import SmallStreamDiffusionParams
from lpnode.pipeline.stream_diffusion.pipeline import StreamDiffusion
from lpnode.pipeline.stream_diffusion.served_model import LoraChoice, ServedModel

SHAPES = NetworkShapes(width=SIDE, height=SIDE, max_images=2, max_rows=3)
SIZE = (SIDE, SIDE)
GRAPHS: dict[Any, TracedNetwork] = {}
"""Those of ``tiny_model()`` in float32: a trace takes longer than all else that builds do here."""


def rows(count: int) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(count)
    latents = torch.randn(count, 4, SIDE // 8, SIDE // 8, generator=generator)
    tokens = torch.randn(count, NUM_TOKENS, TEXT_WIDTH, generator=generator)
    return latents, torch.linspace(900, 100, count), Conditioning(tokens)


class MiscountingCompiler(OnnxRuntimeCompiler):
    """Compiles as it should; what it opens is off by a little."""

    def open(self, engine: Path) -> Any:
        runner = super().open(engine)
        run = runner.run

        class Off:
            def run(self, inputs: dict[str, torch.Tensor], output: torch.Tensor) -> None:
                run(inputs, output)
                output.mul_(1.01)

        return Off()

    def __reduce__(self) -> tuple[type[OnnxRuntimeCompiler], tuple[int]]:
        # The process that compiles need not import this module, and torch with it.
        return OnnxRuntimeCompiler, (self.num_threads,)


class Compilations(OnnxRuntimeCompiler):
    """Where a test reads from the cache that nothing is compiled."""

    def compile(self, *_: Any) -> None:
        raise HostError("there is an engine already")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the engines of ``tiny_model()``; a cold build takes longer than all tests."""
    folder = tmp_path_factory.mktemp("built") / "engines"
    states = []
    builder = builder_in(folder)
    model = tiny_model()
    engines = builder.build(model, SHAPES, states.append, threading.Event())
    reference = TorchNetworks()
    reference.load(model)
    torch.testing.assert_close(
        engines.predict(*rows(3)), reference.predict(*rows(3)), rtol=1e-3, atol=1e-4
    )
    assert [state.fraction for state in states] == sorted(state.fraction for state in states)
    assert {state.phase for state in states} == {
        BuildPhase.EXPORT,
        BuildPhase.COMPILE,
        BuildPhase.VERIFY,
    }
    return folder


def builder_in(folder: Path, compiler: OnnxRuntimeCompiler | None = None) -> EngineBuilder:
    return EngineBuilder(
        cache=EngineCache(EngineCacheConfig(folder=folder, spare_bytes=0)),
        compiler=compiler or OnnxRuntimeCompiler(1),
        device=torch.device("cpu"),
        precision=Precision.FP32,
        graphs=GRAPHS,
    )


def switchable(folder: Path, compiler: OnnxRuntimeCompiler | None = None) -> SwitchableNetworks:
    networks = SwitchableNetworks(TorchNetworks(), builder_in(folder, compiler))
    networks.load(tiny_model())
    networks.prepare(SHAPES)
    return networks


async def phase_of(networks: SwitchableNetworks, *phases: BuildPhase) -> None:
    async with asyncio.timeout(100):
        while networks.states[SIZE].phase not in phases:  # noqa: ASYNC110 - nothing wakes us
            await asyncio.sleep(0.01)


class Running:
    """The task that builds, ended with the block."""

    def __init__(self, networks: SwitchableNetworks) -> None:
        self._networks = networks

    async def __aenter__(self) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self._networks.run(), name="engine builds")
        return self._task

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


async def test_a_second_start_takes_the_engines_from_disk(built: Path) -> None:
    networks = switchable(built, Compilations(1))
    async with Running(networks):
        await phase_of(networks, BuildPhase.READY, BuildPhase.FAILED)
    assert networks.states[SIZE].phase is BuildPhase.READY
    assert networks.name == "onnxruntime"


async def test_frames_switch_over_between_two_calls_and_agree_with_torch(built: Path) -> None:
    networks = switchable(built)
    reference = TorchNetworks()
    reference.load(tiny_model())
    inputs = rows(2)
    expected = reference.predict(*inputs)
    served: list[str] = []
    errors: list[Exception] = []
    ended = threading.Event()

    def frames() -> None:
        try:
            while not ended.is_set() or len(set(served)) < 2:
                served.append(networks.name)
                torch.testing.assert_close(
                    networks.predict(*inputs), expected, rtol=1e-3, atol=1e-4
                )
        except Exception as error:  # noqa: BLE001 - shown by the test's own thread
            errors.append(error)

    thread = threading.Thread(target=frames)
    thread.start()
    async with Running(networks):
        await phase_of(networks, BuildPhase.READY)
        ended.set()
        await asyncio.to_thread(thread.join)
    assert not errors
    assert served[0] == "torch"
    assert served == sorted(served, reverse=True)  # torch, then onnxruntime, and never back


async def test_what_engines_were_not_built_for_stays_with_the_fallback(built: Path) -> None:
    networks = switchable(built)
    reference = TorchNetworks()
    reference.load(tiny_model())
    async with Running(networks):
        await phase_of(networks, BuildPhase.READY)
    close = {"rtol": 1e-3, "atol": 1e-4}
    assert torch.equal(networks.predict(*rows(4)), reference.predict(*rows(4)))
    first = networks.predict(*rows(3)).data_ptr()
    assert networks.predict(*rows(2)).data_ptr() == first
    latents = rows(2)[0]
    images = reference.decode(latents)
    torch.testing.assert_close(networks.decode(latents), images, **close)
    torch.testing.assert_close(networks.encode(images), reference.encode(images), **close)


@pytest.fixture
def without_encoder(built: Path, tmp_path: Path) -> Path:
    """A cache in which one engine is to be built, of the network that takes least time."""
    folder = tmp_path / "engines"
    shutil.copytree(built, folder)
    shutil.rmtree(encoder_in(folder))
    return folder


def encoder_in(folder: Path) -> Path:
    entries = EngineCache(EngineCacheConfig(folder=folder)).entries()
    (encoder,) = [entry for entry in entries if entry.key["network"] == "vae_encoder"]
    return encoder.folder


async def test_a_corrupt_engine_is_built_again(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    shutil.copytree(built, folder)
    engine = encoder_in(folder) / "engine"
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 0xFF
    engine.write_bytes(content)
    networks = switchable(folder)
    async with Running(networks):
        await phase_of(networks, BuildPhase.READY, BuildPhase.FAILED)
    assert networks.states[SIZE].phase is BuildPhase.READY
    assert engine.read_bytes() != bytes(content)


async def test_an_engine_that_differs_from_torch_is_refused_and_the_fallback_stays(
    without_encoder: Path,
) -> None:
    networks = switchable(without_encoder, MiscountingCompiler(1))
    async with Running(networks):
        await phase_of(networks, BuildPhase.READY, BuildPhase.FAILED)
    state = networks.states[SIZE]
    assert state.phase is BuildPhase.FAILED
    assert "in fp32 differs from torch by 0.01 of its size, more than 0.001" in state.error
    assert networks.name == "torch"
    assert len(networks.predict(*rows(2))) == 2
    assert len(os.listdir(without_encoder)) == 2


async def test_cancelled_in_mid_build_nothing_is_left(without_encoder: Path) -> None:
    networks = switchable(without_encoder)
    async with Running(networks):
        await phase_of(networks, BuildPhase.COMPILE)
        assert len(os.listdir(without_encoder)) > 2
    assert len(os.listdir(without_encoder)) == 2
    assert networks.name == "torch"


class StopOnceAChildRuns(threading.Event):
    """Is set from the moment that somebody looks while this process has a new child."""

    def __init__(self) -> None:
        super().__init__()
        self._others = set(psutil.Process().children())
        self.children: set[psutil.Process] = set()

    def is_set(self) -> bool:
        self.children |= set(psutil.Process().children()) - self._others
        return bool(self.children)


def test_stopped_while_a_network_is_traced_nothing_is_left(without_encoder: Path) -> None:
    stop, states = StopOnceAChildRuns(), list[BuildState]()
    builder = dataclasses.replace(builder_in(without_encoder), graphs={})
    with pytest.raises(BuildCancelled, match="torch was at work"):
        builder.build(tiny_model(), SHAPES, states.append, stop)
    assert [state.phase for state in states] == [BuildPhase.EXPORT]
    assert not builder.graphs
    assert len(os.listdir(without_encoder)) == 2
    assert [child.is_running() for child in stop.children] == [False]


def test_new_weights_are_compiled_without_another_trace(built: Path, tmp_path: Path) -> None:
    stop, states = StopOnceAChildRuns(), list[BuildState]()
    with pytest.raises(BuildCancelled, match="onnxruntime was at work"):
        builder_in(tmp_path).build(tiny_model(seed=1), SHAPES, states.append, stop)
    assert [state.phase for state in states] == [BuildPhase.EXPORT, BuildPhase.COMPILE]


async def test_new_weights_are_served_at_once_and_get_engines_of_their_own(built: Path) -> None:
    networks = switchable(built)
    async with Running(networks):
        await phase_of(networks, BuildPhase.READY)
        networks.update(tiny_model(seed=1))
        assert networks.name == "torch"
        assert networks.states[SIZE].phase is not BuildPhase.READY
    reference = TorchNetworks()
    reference.load(tiny_model(seed=1))
    assert torch.equal(networks.predict(*rows(1)), reference.predict(*rows(1)))


async def builds_in_status(
    folder: Path, compiler: OnnxRuntimeCompiler, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """Every different state of engines that a node's ``/status`` shows until their build ends."""

    def small(device: str) -> StreamDiffusion:
        def open_model(_: LoraChoice, progress: object) -> OpenModel:
            model = tiny_model()
            networks = SwitchableNetworks(TorchNetworks(), builder_in(folder, compiler))
            networks.load(model)
            return OpenModel(model, networks)

        return StreamDiffusion(
            ServedModel(
                open_model=open_model,
                names=("small",),
                device=device,
                params=SmallStreamDiffusionParams,
                defaults={"width": SIDE, "height": SIDE, "t_index_list": [32]},
                max_batch=SHAPES.max_images,
                max_rows=SHAPES.max_rows,
            )
        )

    monkeypatch.setattr("lpnode.node.built_in", lambda _: Catalog({"small": small}))
    any_port = Address(host="127.0.0.1", port=0)
    node = Node(
        NodeConfig(
            service_uri="https://127.0.0.1:8935",
            listen=any_port,
            operator=any_port,
            data_dir=data_dir,
            ai_models="live-video-to-video:small:true",
            may_use_gpu=False,
            is_checked_at_start=False,
        )
    )
    builds: list[dict[str, Any]] = []
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(100):
        tasks.create_task(node.run(), name="node")
        await node.ready.wait()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.operator.port}") as client:
            while not builds or builds[-1]["phase"] not in ("ready", "failed"):
                (model,) = (await client.get("/status")).json()["Models"]
                assert (model["model_id"], model["state"]) == ("small", "ready")
                (build,) = model["engine_builds"]
                if build not in builds[-1:]:
                    builds.append(build)
                await asyncio.sleep(0.01)
        node.stop()
    return builds


async def test_an_operator_sees_how_far_engines_are(
    without_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = OnnxRuntimeCompiler(1)
    builds = await builds_in_status(without_encoder, compiler, tmp_path / "data", monkeypatch)
    assert {(build["width"], build["height"]) for build in builds} == {SIZE}
    phases = [build["phase"] for build in builds]
    assert "compile" in phases
    assert {build["network"] for build in builds[:-1]} <= {"", "vae_encoder"}
    assert [build["fraction"] for build in builds] == sorted(b["fraction"] for b in builds)
    last = {"phase": "ready", "network": "", "fraction": 1.0, "error": ""}
    assert builds[-1] == {"width": SIDE, "height": SIDE, **last}


async def test_an_operator_sees_why_there_are_no_engines(
    without_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = MiscountingCompiler(1)
    builds = await builds_in_status(without_encoder, compiler, tmp_path / "data", monkeypatch)
    assert builds[-1]["phase"] == "failed"
    assert "differs from torch" in builds[-1]["error"]


def test_a_fallback_of_another_type_cannot_be_switched_from(tmp_path: Path) -> None:
    builder = dataclasses.replace(builder_in(tmp_path), precision=Precision.FP16)
    with pytest.raises(InvalidArgument, match=r"float16 on cpu, and .*float32 on cpu"):
        SwitchableNetworks(TorchNetworks(), builder)


PROFILE = ShapeProfile(width=8, height=8, opt_rows=1, max_rows=1)


def test_what_a_compiler_says_comes_back_from_its_process(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(b"no protobuf")
    files = (tmp_path / "network.onnx", tmp_path / "engine")
    work = Compilation(OnnxRuntimeCompiler(1), files[0], PROFILE, Precision.FP32, files[1])
    with pytest.raises(HostError, match=r"onnxruntime failed: ONNX Runtime does not take .*\.onnx"):
        run_in_child(work, threading.Event())


class PlannedCache(EngineCache):
    """Keeps what builds said that they would write, by network."""

    def __init__(self, config: EngineCacheConfig) -> None:
        super().__init__(config)
        self.planned: dict[str, int] = {}

    def build(self, key: EngineKey, *arguments: Any, num_bytes: int, **others: Any) -> Path:
        self.planned[key.network] = num_bytes
        return super().build(key, *arguments, num_bytes=num_bytes, **others)


async def test_a_stream_goes_over_to_a_unet_of_8_bits_whose_ranges_were_measured_on_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = PlannedCache(EngineCacheConfig(folder=tmp_path, spare_bytes=0))
    builder = dataclasses.replace(
        builder_in(tmp_path), cache=cache, precision=Precision.INT8, graphs={}
    )
    networks = SwitchableNetworks(TorchNetworks(dtype=torch.float16), builder)
    networks.load(tiny_model())
    networks.prepare(SHAPES)
    latents, timesteps, conditioning = rows(3)
    inputs = latents.half(), timesteps, Conditioning(conditioning.tokens.half())
    before = networks.predict(*inputs).float()
    with caplog.at_level(logging.INFO):
        async with Running(networks):
            await phase_of(networks, BuildPhase.CALIBRATE)
            await phase_of(networks, BuildPhase.READY, BuildPhase.FAILED)
    assert networks.states[SIZE].phase is BuildPhase.READY, networks.states[SIZE].error
    assert networks.name == "onnxruntime"
    after = networks.predict(*inputs).float()
    error = (after - before).square().mean().sqrt() / before.square().mean().sqrt()
    assert 1e-3 < error < 0.2  # these numbers are random, which the ranges are not for
    keys = {entry.key["network"]: entry.key for entry in cache.entries()}
    assert {name: key["precision"] for name, key in keys.items()} == {
        "unet": "int8",
        "vae_encoder": "fp16",
        "vae_decoder": "fp16",
    }
    assert [name for name, key in keys.items() if key.get("calibration")] == ["unet"]
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "unet of tiny-sd15 in int8 differs from torch by" in text]
    in_half = 2 * 2 * sum(weight.numel() for weight in tiny_model().unet.parameters())
    assert in_half // 2 < cache.planned["unet"] - (64 << 20) < in_half


def test_8_bits_are_stopped_while_ranges_are_measured_and_nothing_is_left(tmp_path: Path) -> None:
    builder = dataclasses.replace(builder_in(tmp_path), precision=Precision.FP8)
    stop = threading.Event()

    def report(state: BuildState) -> None:
        assert state.phase is BuildPhase.CALIBRATE
        stop.set()

    model = tiny_model()
    model.unet.half()
    with pytest.raises(BuildCancelled):
        builder.build(model, SHAPES, report, stop)
    assert not list(tmp_path.iterdir())
