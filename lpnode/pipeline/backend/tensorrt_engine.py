"""TensorRT as a compiler of engines: ONNX in, a plan file out, run by ``csrc/diffusion``.

Networks are strongly typed: the graph says what is computed in what precision. float16 is a graph
of float16; int8 and fp8 are explicit QuantizeLinear and DequantizeLinear nodes in the graph, which
``onnx_quantise`` puts there. The flags that once let TensorRT choose are gone from version 11,
which this file is written for as well as for 10.
Source: NVIDIA's guide for migrating from TensorRT 10.x to 11.x.

None of it has been run: neither TensorRT nor a GPU could be had where it was written.
"""

import logging
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpnode._native import diffusion
from lpnode.errors import ConfigError, HostError, InvalidArgument, NotBuilt, OutOfDeviceMemory
from lpnode.pipeline.backend.engine_key import Precision, ShapeProfile
from lpnode.pipeline.backend.tensorrt_progress import BuildPhases

if TYPE_CHECKING:  # the process that compiles needs little of torch
    import torch

logger = logging.getLogger(__name__)

GIB = 1 << 30
_ALIGNMENT = 256
"""What TensorRT wants an address to be a multiple of."""
_FIRST_CHIP_WITH_FP8 = (8, 9)
_LEVELS = range(6)


def tensorrt() -> Any:
    """The Python package. Raises: NotBuilt: it is missing, or another than ``lpnode`` runs."""
    try:
        import tensorrt as package
    except ImportError as error:
        raise NotBuilt(
            "TensorRT is not installed: pip install tensorrt, then build lpnode again with "
            "-Ccmake.define.LPNODE_TENSORRT=ON"
        ) from error
    if not diffusion.has_tensorrt():
        raise NotBuilt(
            f"TensorRT {package.__version__} is installed, but lpnode was built without it: "
            "build lpnode again with -Ccmake.define.LPNODE_TENSORRT=ON"
        )
    linked = diffusion.tensorrt_version()
    if package.__version__.split(".")[:3] != linked.split("."):
        raise NotBuilt(
            f"lpnode runs TensorRT {linked}, the Python package builds with "
            f"{package.__version__}: install the same version, or build lpnode again"
        )
    return package


def workspace_bytes(free_bytes: int) -> int | None:
    """The most device memory that a builder may try kernels in; None leaves it to TensorRT.

    Source: streamdiffusion.md section 14.
    """
    return free_bytes - 4 * GIB if free_bytes > 6 * GIB else None


def require_precision(precision: Precision, capability: tuple[int, int]) -> None:
    """Raises: InvalidArgument: a GPU of this compute capability has no such arithmetic."""
    if precision is Precision.FP8 and capability < _FIRST_CHIP_WITH_FP8:
        raise InvalidArgument(
            "fp8 needs a GPU of compute capability 8.9 or newer, this one has "
            f"{capability[0]}.{capability[1]}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtCompiler:
    """``EngineCompiler`` for one GPU.

    An engine runs on chips of the same compute capability and with the same version alone; that
    TensorRT can build wider ones is of no use, as an engine's key has both.

    Attributes:
        device: index of the GPU.
        level: 0 to 5; 5 tries everything, which takes longest.
        timing_cache: a file of measured kernels, which makes the next build quicker; kept from
            build to build.
    """

    device: int = 0
    level: int = 3
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.level not in _LEVELS:
            raise ConfigError(f"TensorRT's builder level must be 0 to 5, got {self.level}")

    @property
    def name(self) -> str:
        """See ``EngineCompiler.name``."""
        return "tensorrt"

    @property
    def version(self) -> str:
        """See ``EngineCompiler.version``; engines of another level count as of another version."""
        return f"{tensorrt().__version__}, level {self.level}"

    def compile(
        self,
        onnx: Path,
        profile: ShapeProfile,
        precision: Precision,
        target: Path,
        progress: Callable[[float], None],
    ) -> None:
        """See ``EngineCompiler.compile``."""
        import torch

        trt = tensorrt()
        require_precision(precision, torch.cuda.get_device_capability(self.device))
        with torch.cuda.device(self.device):
            reasons: list[str] = []
            log = _logger(trt, reasons)
            builder = trt.Builder(log)
            # Accepted and without effect in version 11, where there is nothing else.
            flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            network = builder.create_network(flag)
            parser = trt.OnnxParser(network, log)
            if not parser.parse_from_file(str(onnx)):
                errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
                raise HostError(f"TensorRT does not take {onnx.name}: {'; '.join(errors)}")
            _require_types(trt, network, precision, onnx)
            config = self._builder_config(trt, builder, progress)
            config.add_optimization_profile(_profile(builder, network, profile, onnx))
            self._load_timings(config)
            plan = builder.build_serialized_network(network, config)
            if plan is None:
                reason = "; ".join(reasons[-3:]) or "no reason given"
                kind = OutOfDeviceMemory if "out of memory" in reason.lower() else HostError
                raise kind(f"TensorRT cannot build {onnx.name}: {reason}")
            self._keep_timings(config)
        target.write_bytes(memoryview(plan))

    def open(self, engine: Path) -> "TensorRtRunner":
        """See ``EngineCompiler.open``."""
        tensorrt()
        with (
            open(engine, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan,
        ):
            return TensorRtRunner(diffusion.TrtEngine(plan, self.device), self.device)

    def _builder_config(self, trt: Any, builder: Any, progress: Callable[[float], None]) -> Any:
        import torch

        config = builder.create_builder_config()
        config.builder_optimization_level = self.level
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        workspace = workspace_bytes(free_bytes)
        if workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
        config.progress_monitor = _monitor(trt, BuildPhases(progress))
        return config

    def _load_timings(self, config: Any) -> None:
        path = self.timing_cache
        if path is None:
            return
        known = path.read_bytes() if path.exists() else b""
        # One of another version or chip is refused by TensorRT, and a new one begun.
        cache = config.create_timing_cache(known) or config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)

    def _keep_timings(self, config: Any) -> None:
        path = self.timing_cache
        if path is None:
            return
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(memoryview(config.get_timing_cache().serialize()))
            partial.replace(path)
        except OSError as error:  # the engine is there; only the next build is slower
            logger.warning("timings of TensorRT's kernels are not kept in %s: %s", path, error)


class TensorRtRunner:
    """``GraphRunner`` of a TensorRT engine; for one thread at a time."""

    def __init__(self, engine: diffusion.TrtEngine, device: int) -> None:
        self._engine = engine
        self._device = device
        self._output = next(one.name for one in engine.tensors if not one.is_input)
        self._bound: dict[str, tuple[int, torch.Size]] = {}
        self._held: dict[str, torch.Tensor] = {}

    def run(self, inputs: "Mapping[str, torch.Tensor]", output: "torch.Tensor") -> None:
        """See ``GraphRunner.run``: enqueues on the current stream and waits for nothing.

        Tensors that lie where those of the call before did are not bound anew.
        """
        import torch

        tensors = {name: _aligned(tensor) for name, tensor in inputs.items()}
        tensors[self._output] = output
        places = {name: (tensor.data_ptr(), tensor.shape) for name, tensor in tensors.items()}
        if places != self._bound:
            self._bound = {}
            self._engine.bind(tensors)
            self._bound, self._held = places, tensors
        self._engine.run(torch.cuda.current_stream(self._device).cuda_stream)


def _aligned(tensor: "torch.Tensor") -> "torch.Tensor":
    """A row of a batch may begin anywhere; what torch allocates does not."""
    return tensor if tensor.data_ptr() % _ALIGNMENT == 0 else tensor.clone()


def _profile(builder: Any, network: Any, profile: ShapeProfile, onnx: Path) -> Any:
    """The graph's own shapes with the profile's rows in place of the dimension left open."""
    made = builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        first, *others = tuple(tensor.shape)
        if first != -1 or -1 in others:
            raise InvalidArgument(
                f"{onnx.name}: {tensor.name} must leave its rows open and nothing else, "
                f"got {(first, *others)}"
            )
        made.set_shape(
            tensor.name,
            (profile.min_rows, *others),
            (profile.opt_rows, *others),
            (profile.max_rows, *others),
        )
    return made


def _require_types(trt: Any, network: Any, precision: Precision, onnx: Path) -> None:
    """Raises: InvalidArgument: the graph computes in another precision than its key says."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    if precision in (Precision.INT8, Precision.FP8):
        wanted = trt.DataType.INT8 if precision is Precision.INT8 else trt.DataType.FP8
        is_so = any(
            layer.type == trt.LayerType.QUANTIZE and layer.get_output(0).dtype == wanted
            for layer in layers
        )
        what = f"QuantizeLinear nodes that give {precision}"
    else:
        wanted = {
            Precision.FP32: trt.DataType.FLOAT,
            Precision.FP16: trt.DataType.HALF,
        }[precision]
        is_so = network.get_output(0).dtype == wanted
        what = f"an output of {precision}"
    if not is_so:
        raise InvalidArgument(
            f"{onnx.name} must have {what}: TensorRT computes in the precision of the graph"
        )


def _logger(trt: Any, reasons: list[str]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                reasons.append(message)
            logger.debug("TensorRT: %s", message)

    return Log()


def _monitor(trt: Any, phases: BuildPhases) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, num_steps: int) -> None:
            phases.start(name, parent, num_steps)

        def step_complete(self, name: str, step: int) -> bool:
            phases.step(name, step)
            return True

        def phase_finish(self, name: str) -> None:
            phases.finish(name)

    return Monitor()
