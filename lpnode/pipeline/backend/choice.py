"""Which backend runs a model's networks: on a processor, the fastest that agrees with torch."""

import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lpnode.errors import ConfigError, HostError, InvalidArgument, NotBuilt
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.agreement import Agreement, SampleFrame, agreement
from lpnode.pipeline.backend.compiled_torch import CompiledTorchNetworks
from lpnode.pipeline.backend.engine_cache import EngineCache, EngineCacheConfig
from lpnode.pipeline.backend.engine_key import Precision
from lpnode.pipeline.backend.networks import Networks, NetworkShapes
from lpnode.pipeline.backend.onnx_networks import GraphCache
from lpnode.pipeline.backend.onnxruntime_networks import OnnxRuntimeNetworks
from lpnode.pipeline.backend.openvino_networks import OpenVinoNetworks
from lpnode.pipeline.backend.tensorrt_networks import tensorrt_networks
from lpnode.pipeline.backend.torch_networks import TorchNetworks
from lpnode.pipeline.backend.torch_threads import use_threads

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "compiled", "onnxruntime", "openvino", "tensorrt")
ALIASES = {"none": "torch", "xformers": "torch"}
"""Names that StreamDiffusion has for what torch does by itself."""

MEASURED_ROWS = 2
"""Rows of the measured frame, one stream's at two timesteps, where networks may get as many."""
MEASURED_SECONDS = 0.3
"""For how long a backend is run again and again; a large model is run ``MIN_RUNS`` times."""
MIN_RUNS, MAX_RUNS = 2, 30

_Make = Callable[[int], Networks]
"""Threads that work on one call → a backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendFigures:
    """What became of one backend.

    Attributes:
        num_threads: that worked on one call.
        frame_s: median seconds of encode + predict + decode for one picture; None when it was
            not measured.
        agreement: with torch in float32, None when it was not compared.
        problem: why it cannot be had, or ``""``.
    """

    name: str
    num_threads: int
    frame_s: float | None = None
    agreement: Agreement | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Networks, loaded and prepared, and the figures that they were chosen by (none: no choice)."""

    networks: Networks
    figures: tuple[BackendFigures, ...] = ()


def choose_networks(
    model: DiffusionModel,
    *,
    device: str,
    dtype: torch.dtype,
    weights_dtype: torch.dtype | None = None,
    shapes: NetworkShapes,
    wanted: str = "auto",
    engines: Precision | None = None,
    folder: Path,
) -> Choice:
    """Loads and prepares networks for a device.

    On a processor the backends are timed on the model itself, on all cores and on one, and must
    agree with torch. None but torch computes in bfloat16 there, and none agrees with float32 that
    does: it runs because it was asked for. A backend that cannot be had is replaced by the best of
    the others. Where ``SwitchableNetworks`` are chosen, somebody has to ``run`` them.

    Args:
        dtype: of what networks take and give.
        weights_dtype: of the weights and of what is computed; None: ``dtype``.
        wanted: one of ``BACKENDS`` or ``ALIASES``.
        engines: what TensorRT's compute in; None: ``dtype``.
        folder: where backends may write networks.
    Raises: ConfigError: no such backend. HostError, OutOfDeviceMemory: torch cannot run the model.
    """
    name = ALIASES.get(wanted, wanted)
    if name not in BACKENDS:
        known = ", ".join((*BACKENDS, *ALIASES))
        raise ConfigError(f"no such diffusion backend: {wanted!r}; choose one of {known}")
    on_processor = torch.device(device).type == "cpu"
    computed = weights_dtype or dtype
    if problem := _misplaced(name, on_processor, computed):
        logger.warning("%s: %s; the next backend is taken", model.name, problem)
        name = "auto"
    if name == "torch" or (on_processor and computed != torch.float32):
        networks = TorchNetworks(device, dtype, weights_dtype=computed)
        return Choice(_ready(networks, model, shapes))
    if not on_processor:
        return Choice(_ready(_on_device(name, device, dtype, engines, folder), model, shapes))
    graphs = GraphCache()
    makers: dict[str, _Make] = {
        "openvino": lambda threads: OpenVinoNetworks(folder, num_threads=threads, graphs=graphs),
        "onnxruntime": lambda threads: OnnxRuntimeNetworks(num_threads=threads, graphs=graphs),
    }
    return _fastest(model, shapes, makers, name)


def _misplaced(name: str, on_processor: bool, computed: torch.dtype) -> str:
    """Why a backend cannot be had on a device, and what to do; ``""`` when it can."""
    if name in ("compiled", "tensorrt") and on_processor:
        return f"the backend {name} runs on a CUDA device; give the model one, or choose auto"
    if name in ("onnxruntime", "openvino") and not on_processor:
        return f"the backend {name} runs on the processor here; choose auto, or the device cpu"
    if on_processor and name not in ("auto", "torch") and computed != torch.float32:
        return f"the backend {name} computes in float32, and {computed} was asked for; choose torch"
    if name == "tensorrt" and computed == torch.bfloat16:
        return f"the backend {name} has no engines in bfloat16; choose fp16, or the backend torch"
    return ""


def _on_device(
    name: str, device: str, dtype: torch.dtype, engines: Precision | None, folder: Path
) -> Networks:
    """What runs networks on a GPU: TensorRT where it is installed, unless another is asked for.

    Its engines take minutes to build; torch serves until they are there. ``auto`` does not compile
    with torch, which holds a model's start up for about as long.
    """
    if name == "compiled":
        return CompiledTorchNetworks(device, dtype)
    eager = TorchNetworks(device, dtype)
    if dtype == torch.bfloat16:
        return eager
    usual = Precision.FP32 if dtype == torch.float32 else Precision.FP16
    cache = EngineCache(EngineCacheConfig(folder=folder))
    try:
        try:
            return tensorrt_networks(eager, cache, precision=engines or usual)
        except InvalidArgument as error:  # this chip has no such arithmetic
            logger.warning("engines for %s are built in %s: %s", device, usual, error)
            return tensorrt_networks(eager, cache, precision=usual)
    except NotBuilt as error:
        is_wanted = name == "tensorrt" or engines is not None
        level = logging.WARNING if is_wanted else logging.INFO
        logger.log(
            level,
            "torch runs the networks on %s: %s; with -aiBackend compiled it compiles them, which "
            "takes minutes at every start",
            device,
            error,
        )
        return eager


def _fastest(
    model: DiffusionModel,
    shapes: NetworkShapes,
    makers: Mapping[str, _Make],
    wanted: str,
) -> Choice:
    """Times backends, and torch beside them; ``wanted`` wins if it runs and agrees at all."""
    rows = min(MEASURED_ROWS, shapes.max_rows)
    frame = SampleFrame(model, shapes, rows)
    torch_networks = _ready(TorchNetworks(), model, shapes)
    expected = tuple(output.clone() for output in frame.run(torch_networks))
    torch_figures = BackendFigures(
        name="torch",
        num_threads=torch.get_num_threads(),
        frame_s=_median_s(torch_networks, frame),
        agreement=agreement(expected, expected),
    )
    trial = _Trial(model, shapes, frame, expected)
    best: tuple[Networks, BackendFigures] | None = None
    if wanted == "auto":
        best = torch_networks, torch_figures
    figures = [torch_figures]
    for name in makers if wanted == "auto" else [wanted]:
        for num_threads in _thread_counts():
            networks, measured = trial.run(name, makers[name], num_threads)
            figures.append(measured)
            if networks is None:
                break
            if best is None or _seconds(measured) < _seconds(best[1]):
                best, networks = (networks, measured), best[0] if best else None
            if networks is not None:
                networks.unload()
    if best is None:
        problem = figures[-1].problem
        logger.warning("%s: no %s: %s; the next is taken", model.name, wanted, problem)
        others = {name: make for name, make in makers.items() if name != wanted}
        return _fastest(model, shapes, others, "auto")
    if best[0] is torch_networks:
        torch_networks.prepare(shapes)  # takes up again what it measured of threads
    else:
        # What torch has left to do is small, and its threads would wait for more of it on the
        # cores that the backend's need.
        use_threads(1)
    logger.info(
        "%s at %dx%d, one picture and %d rows, runs on %s",
        model.name,
        shapes.width,
        shapes.height,
        rows,
        "; not on ".join(_in_words(one) for one in sorted(figures, key=lambda f: f is not best[1])),
    )
    return Choice(best[0], tuple(figures))


@dataclass(frozen=True, slots=True)
class _Trial:
    """One frame, and what torch makes of it."""

    model: DiffusionModel
    shapes: NetworkShapes
    frame: SampleFrame
    expected: Sequence[torch.Tensor]

    def run(
        self, name: str, make: _Make, num_threads: int
    ) -> tuple[Networks | None, BackendFigures]:
        """A backend that runs the model as torch does, or None and why not."""
        agrees = None
        try:
            networks = _ready(make(num_threads), self.model, self.shapes)
            agrees = agreement(self.frame.run(networks), self.expected)
            if agrees.is_good:
                frame_s = _median_s(networks, self.frame)
                return networks, BackendFigures(
                    name=name, num_threads=num_threads, frame_s=frame_s, agreement=agrees
                )
            networks.unload()
            problem = f"differs from torch by {agrees.max_error:.1e} ({agrees.psnr_db:.0f} dB)"
        except (HostError, NotBuilt) as error:
            problem = str(error)
        return None, BackendFigures(
            name=name, num_threads=num_threads, agreement=agrees, problem=problem
        )


def _ready(networks: Networks, model: DiffusionModel, shapes: NetworkShapes) -> Networks:
    networks.load(model)
    networks.prepare(shapes)
    return networks


def _thread_counts() -> tuple[int, ...]:
    cores = len(os.sched_getaffinity(0))
    return (cores, 1) if cores > 1 else (1,)


def _median_s(networks: Networks, frame: SampleFrame) -> float:
    """Seconds of one frame; it has run once before, and what is only done then is not counted."""
    times: list[float] = []
    while len(times) < MIN_RUNS or (sum(times) < MEASURED_SECONDS and len(times) < MAX_RUNS):
        start = time.perf_counter()
        frame.run(networks)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _seconds(figures: BackendFigures) -> float:
    return math.inf if figures.frame_s is None else figures.frame_s


def _in_words(figures: BackendFigures) -> str:
    if figures.problem:
        return f"{figures.name}: {figures.problem}"
    text = f"{figures.name} with {figures.num_threads} threads: {1e3 * _seconds(figures):.2f} ms"
    agrees = figures.agreement
    if agrees is None or agrees.max_error == 0.0:
        return text
    return f"{text}, {agrees.max_error:.0e} and {agrees.psnr_db:.0f} dB from torch"
