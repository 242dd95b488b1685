"""Engines of a model for one size of pictures: found on disk, or exported, compiled and verified.

Source: streamdiffusion.md section 14.
"""

import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from lpnode.errors import HostError, OutOfDeviceMemory
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.engine_cache import EngineCache
from lpnode.pipeline.backend.engine_compiler import EngineCompiler, compile_in_child
from lpnode.pipeline.backend.engine_key import (
    EngineKey,
    NetworkKind,
    Precision,
    ShapeProfile,
    Target,
)
from lpnode.pipeline.backend.engine_networks import EngineNetworks
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.onnx_export import example_inputs, export_network
from lpnode.pipeline.backend.onnx_networks import GraphRunner
from lpnode.pipeline.backend.torch_networks import TorchNetworks

logger = logging.getLogger(__name__)

LARGEST_ERROR = {
    Precision.FP32: 1e-3,
    Precision.FP16: 2e-2,
    Precision.INT8: 2e-1,
    Precision.FP8: 2e-1,
}
"""Of an engine against torch in the same input and output type: root mean square of the difference
over that of torch's result. Chosen so that a wrong layer fails and rounding does not."""

_GRAPH_BYTES = 64 << 20
_CONTEXT_BYTES = 1 << 30
"""What a compiler's process takes of a GPU before it has done anything."""


class BuildPhase(StrEnum):
    """What is being done for an engine."""

    WAITING = "waiting"
    EXPORT = "export"
    COMPILE = "compile"
    VERIFY = "verify"
    READY = "ready"
    FAILED = "failed"


_BEGINS = {BuildPhase.EXPORT: 0.0, BuildPhase.COMPILE: 0.1, BuildPhase.VERIFY: 0.95}


@dataclass(frozen=True, slots=True)
class BuildState:
    """How far the engines of one size are. ``fraction`` of the whole, 0 to 1."""

    phase: BuildPhase
    network: NetworkKind | None = None
    fraction: float = 0.0
    error: str = ""


BuildReport = Callable[[BuildState], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuilder:
    """Builds on one device with one compiler. Methods block, for minutes where nothing is cached.

    Attributes:
        precision: of the networks; inputs and outputs are ``dtype``.
    """

    cache: EngineCache
    compiler: EngineCompiler
    device: torch.device
    precision: Precision

    @property
    def dtype(self) -> torch.dtype:
        """Of inputs and outputs, as the exported network has them."""
        return torch.float32 if self.precision is Precision.FP32 else torch.float16

    def build(
        self,
        model: DiffusionModel,
        shapes: NetworkShapes,
        report: BuildReport,
        stop: threading.Event,
    ) -> EngineNetworks:
        """Gives the engines of a loaded model, whose modules are read while they go on serving.

        Raises:
            BuildCancelled: ``stop`` was set; nothing is left of what was not ready.
            OutOfDeviceMemory, StorageFailed: before the work begins, where it would not fit.
            NotBuilt: the compiler is not installed. HostError: it failed, or differs from torch.
        """
        runners = {
            kind: _NetworkBuild(self, model, shapes, kind, report, stop).run()
            for kind in NetworkKind
        }
        return EngineNetworks(model.traits, shapes, runners, device=self.device, dtype=self.dtype)


@dataclass(frozen=True, slots=True)
class _NetworkBuild:
    builder: EngineBuilder
    model: DiffusionModel
    shapes: NetworkShapes
    kind: NetworkKind
    report: BuildReport
    stop: threading.Event

    def run(self) -> GraphRunner:
        cache, key = self.builder.cache, self._key()
        engine = cache.find(key)
        if engine is not None:
            try:
                return self._opened(engine)
            except HostError as error:
                logger.warning("a cached engine does not open and is built again: %s", error)
                cache.remove(key)
        weight_bytes = self._weight_bytes()
        self._check_device_memory(weight_bytes)
        verified: list[GraphRunner] = []

        def verify(path: Path) -> None:
            self._report(BuildPhase.VERIFY)
            verified.append(self._opened(path))
            self._compare(verified[0])

        engine = cache.build(
            key,
            self._write,
            verify,
            num_bytes=2 * weight_bytes + _GRAPH_BYTES,  # the exported network, and the engine
            stop=self.stop,
        )
        return verified[0] if verified else self._opened(engine)

    def _write(self, engine: Path) -> None:
        builder = self.builder
        exported = engine.parent / "exported"
        self._report(BuildPhase.EXPORT)
        size = (self.shapes.width, self.shapes.height)
        export_network(
            self.model, self.kind, exported / "network.onnx", size=size, dtype=builder.dtype
        )
        self._report(BuildPhase.COMPILE)
        compile_in_child(
            builder.compiler,
            exported / "network.onnx",
            self._profile(),
            builder.precision,
            engine,
            lambda fraction: self._report(BuildPhase.COMPILE, fraction),
            self.stop,
        )
        shutil.rmtree(exported)

    def _compare(self, runner: GraphRunner) -> None:
        """One inference at the most rows against torch. Raises: HostError: they differ."""
        builder, model = self.builder, self.model
        rows = self._profile().max_rows
        inputs = example_inputs(
            model,
            self.kind,
            size=(self.shapes.width, self.shapes.height),
            rows=rows,
            dtype=builder.dtype,
            generator=torch.Generator().manual_seed(0),
        )
        inputs = {name: value.to(builder.device) for name, value in inputs.items()}
        expected = _from_torch(builder, model, self.kind, inputs)
        # Contiguous, which torch's own result need not be: engines know nothing of strides.
        actual = torch.empty(expected.shape, dtype=expected.dtype, device=builder.device)
        runner.run(inputs, actual)
        expected, actual = expected.float(), actual.float()
        error = float((actual - expected).square().mean().sqrt())
        error /= max(float(expected.square().mean().sqrt()), 1e-12)
        largest = LARGEST_ERROR[builder.precision]
        # Written so that a result which is no number fails too.
        if not error <= largest:
            raise HostError(
                f"{builder.compiler.name}'s {self.kind} of {model.name} in {builder.precision} "
                f"differs from torch by {error:.2g} of its size, more than {largest:g}; "
                "the engine is not used"
            )

    def _opened(self, engine: Path) -> GraphRunner:
        runner: GraphRunner = self.builder.compiler.open(engine)
        return runner

    def _key(self) -> EngineKey:
        compiler = self.builder.compiler
        return EngineKey(
            weights_sha256=self.model.weights_sha256[self.kind.weights],
            structure_sha256=_structure_sha256(self.model, self.kind),
            network=self.kind,
            profile=self._profile(),
            precision=self.builder.precision,
            compiler=compiler.name,
            compiler_version=compiler.version,
            target=Target.of(self.builder.device),
        )

    def _profile(self) -> ShapeProfile:
        shapes, traits = self.shapes, self.model.traits
        if self.kind is not NetworkKind.UNET:
            return ShapeProfile(
                width=shapes.width,
                height=shapes.height,
                opt_rows=(shapes.max_images + 1) // 2,
                max_rows=shapes.max_images,
            )
        return ShapeProfile(
            width=shapes.width,
            height=shapes.height,
            opt_rows=(shapes.max_rows + 1) // 2,
            max_rows=shapes.max_rows,
            num_tokens=traits.num_text_tokens,
            token_width=traits.text_width,
            pooled_width=traits.pooled_width or 0,
        )

    def _weight_bytes(self) -> int:
        network = getattr(self.model, self.kind.weights)
        return int(sum(weight.numel() for weight in network.parameters())) * (
            self.builder.dtype.itemsize
        )

    def _check_device_memory(self, weight_bytes: int) -> None:
        if self.builder.device.type != "cuda":
            return
        free = torch.cuda.mem_get_info(self.builder.device)[0]
        needed = 2 * weight_bytes + _CONTEXT_BYTES
        if free < needed:
            raise OutOfDeviceMemory(
                f"compiling the {self.kind} of {self.model.name} takes about {needed >> 20} MiB on "
                f"{self.builder.device}, where {free >> 20} MiB are free; serve fewer models"
            )

    def _report(self, phase: BuildPhase, fraction: float = 0.0) -> None:
        ends = [begin for begin in (*_BEGINS.values(), 1.0) if begin > _BEGINS[phase]]
        within = _BEGINS[phase] + fraction * (min(ends) - _BEGINS[phase])
        kinds = list(NetworkKind)
        whole = (kinds.index(self.kind) + within) / len(kinds)
        self.report(BuildState(phase, self.kind, whole))


def _from_torch(
    builder: EngineBuilder,
    model: DiffusionModel,
    kind: NetworkKind,
    inputs: dict[str, torch.Tensor],
) -> torch.Tensor:
    reference = TorchNetworks(builder.device, builder.dtype)
    reference.load(model)
    if kind is NetworkKind.VAE_ENCODER:
        return reference.encode(inputs["images"], inputs.get("noise"))
    if kind is NetworkKind.VAE_DECODER:
        return reference.decode(inputs["latent"])
    conditioning = Conditioning(
        inputs["encoder_hidden_states"], inputs.get("text_embeds"), inputs.get("time_ids")
    )
    return reference.predict(inputs["sample"], inputs["timestep"], conditioning)


def _structure_sha256(model: DiffusionModel, kind: NetworkKind) -> str:
    """What a graph has beside weights: the network's configuration and the scale of latents."""
    network: Any = getattr(model, kind.weights)
    # A configuration also says which version of the library wrote it, which changes nothing.
    config = {name: value for name, value in network.config.items() if name[0] != "_"}
    scale = None if kind is NetworkKind.UNET else model.traits.latent_scale
    canonical = json.dumps([config, scale], sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
