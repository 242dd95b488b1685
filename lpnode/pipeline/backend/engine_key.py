"""What a compiled network depends on, so that one is never used where it does not belong.

Source: streamdiffusion.md section 14, which lists every item, and what came of leaving some out.
"""

import ctypes
import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lpnode.errors import DeviceError, InvalidArgument

if TYPE_CHECKING:  # a list of engines needs no torch
    import torch

_LAYOUT = 1
"""Counted up when inputs, outputs or files of engines change: older ones are foreign then."""
_MANAGEMENT_LIBRARY = "libnvidia-ml.so.1"
_VERSION_BYTES = 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE


class NetworkKind(StrEnum):
    """Which of a model's networks."""

    UNET = "unet"
    VAE_ENCODER = "vae_encoder"
    VAE_DECODER = "vae_decoder"

    @property
    def weights(self) -> str:
        """The name that its weights have in ``DiffusionModel.weights_sha256``."""
        return "unet" if self is NetworkKind.UNET else "vae"


class Precision(StrEnum):
    """What a network computes with. Inputs and outputs of the two of 8 bits are fp16.

    See Note [Eight bits] for which networks those are for.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    FP8 = "fp8"

    @property
    def is_eight_bits(self) -> bool:
        """Whether ranges have to be measured before a network can compute so."""
        return self in (Precision.INT8, Precision.FP8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeProfile:
    """The shapes that an engine takes: one picture size, and a range of rows in a call.

    Sizes in pixels, multiples of 8. Rows are pictures for a VAE. ``num_tokens`` and ``token_width``
    are those of the UNet's conditioning, 0 for a VAE; ``pooled_width`` is SDXL's alone.
    """

    width: int
    height: int
    min_rows: int = 1
    opt_rows: int
    max_rows: int
    num_tokens: int = 0
    token_width: int = 0
    pooled_width: int = 0

    def __post_init__(self) -> None:
        if self.width < 8 or self.height < 8 or self.width % 8 or self.height % 8:
            raise InvalidArgument(
                f"an engine's pictures must be multiples of 8, got {self.width}x{self.height}"
            )
        if not 1 <= self.min_rows <= self.opt_rows <= self.max_rows:
            raise InvalidArgument(
                "an engine's rows must be 1 <= min <= opt <= max, got "
                f"{self.min_rows}, {self.opt_rows}, {self.max_rows}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """What makes a network's graph another one, with the same weights."""

    has_controlnet: bool = False
    num_ip_tokens: int = 0
    num_cached_attention_frames: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that an engine runs on.

    Attributes:
        architecture: compute capability of a GPU (``sm_90``), or a processor's instruction set.
        driver_major: of a GPU's driver; None for a processor.
    """

    architecture: str
    driver_major: int | None = None

    @classmethod
    def of(cls, device: "torch.device") -> "Target":
        """The target that a device of this machine is. Raises: DeviceError: no driver answers."""
        import torch

        if device.type == "cuda":
            major, minor = torch.cuda.get_device_capability(device)
            return cls(f"sm_{major}{minor}", _driver_major())
        return cls(f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """Everything that an engine depends on; engines with equal keys are interchangeable.

    Attributes:
        weights_sha256: hex digest of the weights, after LoRA fusion.
        structure_sha256: hex digest of what else makes the graph: the same weights can be run with
            another number of attention heads, or another scale of latents.
        compiler: such as ``tensorrt``; compiler_version: as the library names it.
        target: what the engine is compiled for.
        calibration: number of the rules that ranges for 8 bits are measured by; 0 without.
    """

    weights_sha256: str
    structure_sha256: str
    network: NetworkKind
    profile: ShapeProfile
    precision: Precision
    flags: EngineFlags = field(default_factory=EngineFlags)
    compiler: str
    compiler_version: str
    target: Target
    calibration: int = 0

    def to_json(self) -> dict[str, Any]:
        """The key as JSON, for people and for comparison."""
        values = asdict(self)
        if not self.calibration:
            del values["calibration"]  # as it was before there were any
        return {"layout": _LAYOUT, **values}

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex: the engine's name in a cache."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _driver_major() -> int:
    # Asked through NVML: torch knows the runtime's version, not the driver's.
    version = ctypes.create_string_buffer(_VERSION_BYTES)
    try:
        library = ctypes.CDLL(_MANAGEMENT_LIBRARY)
        status = library.nvmlInit_v2()
        if status == 0:
            status = library.nvmlSystemGetDriverVersion(version, ctypes.c_uint(len(version)))
            library.nvmlShutdown()
    except (OSError, AttributeError) as error:
        raise DeviceError(f"the GPU driver's version cannot be asked: {error}") from error
    if status != 0:
        raise DeviceError(f"nvmlSystemGetDriverVersion failed with code {status}")
    return int(version.value.split(b".")[0])
