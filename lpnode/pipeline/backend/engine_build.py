"""Engines of a model for one size of pictures: found on disk, or exported, compiled and verified.

Note [Eight bits]: int8 and fp8 are for the UNet. The autoencoder stays with fp16: the small one
that frames go through has little to gain, and whatever it gets wrong is in the picture. Measured in
torch on the model that ships, with weights and activations rounded as engines round them: against
float32, pictures of two steps had a PSNR of 44 dB with an int8 UNet and 42 dB with an fp8 one, but
39 dB and 36 dB with the decoder alone in 8 bits; the encoder's latents had 40 dB and 32 dB.

Source: streamdiffusion.md section 14.
"""

import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from lpnode.errors import HostError, OutOfDeviceMemory
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.agreement import agreement
from lpnode.pipeline.backend.calibration import CALIBRATION, eight_bit_layers, measure_ranges
from lpnode.pipeline.backend.child_work import run_in_child
from lpnode.pipeline.backend.denoising_samples import unseen_rows
from lpnode.pipeline.backend.engine_cache import BuildCancelled, EngineCache
from lpnode.pipeline.backend.engine_compiler import Compilation, EngineCompiler
from lpnode.pipeline.backend.engine_key import (
    EngineKey,
    NetworkKind,
    Precision,
    ShapeProfile,
    Target,
)
from lpnode.pipeline.backend.engine_networks import EngineNetworks
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.onnx_networks import GraphRunner
from lpnode.pipeline.backend.onnx_quantise import QUANTISED_OPSET, quantise_network
from lpnode.pipeline.backend.onnx_trace import (
    OPSET,
    example_inputs,
    network_weights,
    trace_in_child,
)
from lpnode.pipeline.backend.onnx_weights import TracedNetwork, write_network
from lpnode.pipeline.backend.torch_networks import TorchNetworks

logger = logging.getLogger(__name__)

LARGEST_ERROR = {
    Precision.FP32: 1e-3,
    Precision.FP16: 2e-2,
    Precision.INT8: 1e-1,
    Precision.FP8: 1e-1,
}
"""Of an engine against torch in the same input and output type: root mean square of the difference
over that of torch's result. Chosen so that a wrong layer fails and rounding does not: the shipped
UNet's is 0.023 with int8 and 0.024 with fp8."""

_GRAPH_BYTES = 64 << 20
_CONTEXT_BYTES = 1 << 30
"""What a compiler's process takes of a GPU before it has done anything."""


class BuildPhase(StrEnum):
    """What is being done for an engine."""

    WAITING = "waiting"
    CALIBRATE = "calibrate"
    EXPORT = "export"
    COMPILE = "compile"
    VERIFY = "verify"
    READY = "ready"
    FAILED = "failed"


_BEGINS = {
    BuildPhase.CALIBRATE: 0.0,
    BuildPhase.EXPORT: 0.05,
    BuildPhase.COMPILE: 0.1,
    BuildPhase.VERIFY: 0.95,
}


@dataclass(frozen=True, slots=True)
class BuildState:
    """How far the engines of one size are. ``fraction`` of the whole, 0 to 1."""

    phase: BuildPhase
    network: NetworkKind | None = None
    fraction: float = 0.0
    error: str = ""


BuildReport = Callable[[BuildState], None]

_GraphKey = tuple[NetworkKind, str, tuple[int, int], torch.dtype, int]
"""With the digest of the structure, (width, height), and the opset at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuilder:
    """Builds on one device with one compiler. Methods block, for minutes where nothing is cached.

    Attributes:
        precision: of the networks, but for Note [Eight bits]; inputs and outputs are ``dtype``.
        graphs: those traced so far. Weights do not matter to them, so new ones need no new trace.
    """

    cache: EngineCache
    compiler: EngineCompiler
    device: torch.device
    precision: Precision
    graphs: dict[_GraphKey, TracedNetwork] = field(default_factory=dict)

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

        Tracing and compiling, which take nearly all of the time, are done in processes that are
        ended the moment that ``stop`` is set. Other work looks at it as often as it can, between
        networks, samples and weights. Nothing ends a runtime that reads an engine, or the one
        inference that an engine is held against.

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
        self._check_stop()
        cache, key = self.builder.cache, self._key()
        engine = cache.find(key)
        if engine is not None:
            try:
                return self._opened(engine)
            except HostError as error:
                logger.warning("a cached engine does not open and is built again: %s", error)
                cache.remove(key)
        weight_bytes = self._stored_bytes()
        self._check_device_memory(weight_bytes)
        verified: list[GraphRunner] = []

        def verify(path: Path) -> None:
            self._report(BuildPhase.VERIFY)
            verified.append(self._opened(path))
            self._check_stop()
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
        network = exported / "network.onnx"
        self._export(network)
        self._report(BuildPhase.COMPILE)
        run_in_child(
            Compilation(builder.compiler, network, self._profile(), self._precision, engine),
            self.stop,
            lambda fraction: self._report(BuildPhase.COMPILE, fraction),
        )
        shutil.rmtree(exported)

    def _export(self, path: Path) -> None:
        weights = network_weights(self.model, self.kind)
        if not self._precision.is_eight_bits:
            write_network(self._traced(), weights, path, stop=self.stop)
            return
        self._report(BuildPhase.CALIBRATE)
        ranges = measure_ranges(
            self.model,
            self._size,
            lambda fraction: self._report(BuildPhase.CALIBRATE, fraction),
            self.stop,
        )
        quantised = quantise_network(self._traced(), weights, ranges, self._precision)
        write_network(*quantised, path, stop=self.stop)

    def _traced(self) -> TracedNetwork:
        """The network's graph; those that will be asked for next are traced in the same process.

        One for each would import torch and the model's library each time.
        """
        self._report(BuildPhase.EXPORT)
        builder, kinds = self.builder, list(NetworkKind)
        if self._graph_key not in builder.graphs:
            later = [replace(self, kind=kind) for kind in kinds[kinds.index(self.kind) + 1 :]]
            missing = [build for build in later if builder.cache.find(build._key()) is None]
            wanted = {build.kind: build._graph_key for build in (self, *missing)}
            traced = trace_in_child(
                self.model,
                {kind: key[-1] for kind, key in wanted.items()},
                size=self._size,
                dtype=builder.dtype,
                stop=self.stop,
            )
            builder.graphs.update({wanted[kind]: graph for kind, graph in traced.items()})
        return builder.graphs[self._graph_key]

    def _compare(self, runner: GraphRunner) -> None:
        """One inference at the most rows against torch. Raises: HostError: they differ."""
        builder, model = self.builder, self.model
        inputs = self._trial_inputs()
        inputs = {name: value.to(builder.device) for name, value in inputs.items()}
        expected = _from_torch(builder, model, self.kind, inputs)
        # Contiguous, which torch's own result need not be: engines know nothing of strides.
        actual = torch.empty(expected.shape, dtype=expected.dtype, device=builder.device)
        runner.run(inputs, actual)
        expected, actual = expected.float(), actual.float()
        error = float((actual - expected).square().mean().sqrt())
        error /= max(float(expected.square().mean().sqrt()), 1e-12)
        largest = LARGEST_ERROR[self._precision]
        # Written so that a result which is no number fails too.
        if not error <= largest:
            raise HostError(
                f"{builder.compiler.name}'s {self.kind} of {model.name} in {self._precision} "
                f"differs from torch by {error:.2g} of its size, more than {largest:g}; "
                "the engine is not used"
            )
        logger.info(
            "%s's %s of %s in %s differs from torch by %.2g of its size, PSNR %.1f dB",
            builder.compiler.name,
            self.kind,
            model.name,
            self._precision,
            error,
            agreement([actual], [expected]).psnr_db,
        )

    def _trial_inputs(self) -> dict[str, torch.Tensor]:
        """Random numbers; for 8 bits, whose ranges are not those of such, of real denoising."""
        rows, dtype = self._profile().max_rows, self.builder.dtype
        if self._precision.is_eight_bits:
            return unseen_rows(self.model, self._size, rows, dtype)
        return example_inputs(
            self.model,
            self.kind,
            size=self._size,
            rows=rows,
            dtype=dtype,
            generator=torch.Generator().manual_seed(0),
        )

    def _opened(self, engine: Path) -> GraphRunner:
        runner: GraphRunner = self.builder.compiler.open(engine)
        return runner

    @property
    def _precision(self) -> Precision:
        """See Note [Eight bits]."""
        precision = self.builder.precision
        if precision.is_eight_bits and self.kind is not NetworkKind.UNET:
            return Precision.FP16
        return precision

    @property
    def _graph_key(self) -> _GraphKey:
        opset = QUANTISED_OPSET if self._precision.is_eight_bits else OPSET
        structure = _structure_sha256(self.model, self.kind)
        return self.kind, structure, self._size, self.builder.dtype, opset

    @property
    def _size(self) -> tuple[int, int]:
        return self.shapes.width, self.shapes.height

    def _key(self) -> EngineKey:
        compiler = self.builder.compiler
        return EngineKey(
            weights_sha256=self.model.weights_sha256[self.kind.weights],
            structure_sha256=_structure_sha256(self.model, self.kind),
            network=self.kind,
            profile=self._profile(),
            precision=self._precision,
            calibration=CALIBRATION if self._precision.is_eight_bits else 0,
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

    def _stored_bytes(self) -> int:
        """What the weights take in a file of the precision."""
        network: torch.nn.Module = getattr(self.model, self.kind.weights)
        num_bytes = self.builder.dtype.itemsize
        total = num_bytes * sum(weight.numel() for weight in network.parameters())
        if self._precision.is_eight_bits:
            layers: Any = eight_bit_layers(network).values()
            total -= (num_bytes - 1) * sum(layer.weight.numel() for layer in layers)
        return int(total)

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

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise BuildCancelled(f"stopped before the engine of the {self.kind} was ready")

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
