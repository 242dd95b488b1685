"""A pipeline over a tiny model, with what tests want to see of it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest
import torch
from tiny_diffusion_models import SIDE, LetterEncoder, tiny_model

from lpnode.model.diffusion_model import DiffusionModel
from lpnode.model.weights import Progress
from lpnode.pipeline.backend.networks import Conditioning
from lpnode.pipeline.backend.torch_networks import TorchNetworks
from lpnode.pipeline.open_model import OpenModel
from lpnode.pipeline.pipeline import FrameJob, FrameResult, StreamState
from lpnode.pipeline.stream_diffusion.params import SmallStreamDiffusionParams
from lpnode.pipeline.stream_diffusion.pipeline import StreamDiffusion
from lpnode.pipeline.stream_diffusion.served_model import LoraChoice, ServedModel


class WatchedNetworks(TorchNetworks):
    """Counts the rows of each UNet call, and fails where a test has it fail."""

    rows: list[int]
    most_images: int | None = None
    has_no_memory_to_decode = False
    error: Exception | None = None
    errors_by_width: Mapping[int, Exception] = MappingProxyType({})

    def encode(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        error = self.errors_by_width.get(images.shape[3], self.error)
        if error is not None:
            raise error
        if self.most_images is not None and len(images) > self.most_images:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return super().encode(images, noise)

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        self.rows.append(len(latents))
        return super().predict(latents, timesteps, conditioning)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        if self.has_no_memory_to_decode:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return super().decode(latents)


@dataclass
class Studio:
    """A loaded pipeline with what a test wants to see of it."""

    pipeline: StreamDiffusion
    opened: list[tuple[LoraChoice, WatchedNetworks, DiffusionModel]] = field(default_factory=list)
    open_error: Exception | None = None
    free_bytes: int = 1 << 40
    is_opening: threading.Event = field(default_factory=threading.Event)
    may_open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_open.set()

    @property
    def networks(self) -> WatchedNetworks:
        return self.opened[0][1]

    @property
    def encoder(self) -> LetterEncoder:
        encoder = self.opened[0][2].prompt_encoder
        assert isinstance(encoder, LetterEncoder)
        return encoder

    def params(self, **values: object) -> SmallStreamDiffusionParams:
        params = self.pipeline.parse({"width": SIDE, "height": SIDE, **values})
        assert isinstance(params, SmallStreamDiffusionParams)
        return params


MakeStudio = Callable[..., Studio]


@pytest.fixture
def make_studio() -> Iterator[MakeStudio]:
    studios: list[Studio] = []

    def make(
        *,
        is_tiny_vae: bool = True,
        max_batch: int = 8,
        max_rows: int = 16,
        uses_graphs: bool = False,
        has_lcm_lora: bool = False,
        weights_dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> Studio:
        def open_model(choice: LoraChoice, progress: Progress) -> OpenModel:
            studio.is_opening.set()
            studio.may_open.wait()
            progress("unet", 1, 2)
            if studio.open_error is not None:
                raise studio.open_error
            model = tiny_model("sd15" if is_tiny_vae else "sd15-kl", seed=len(choice.loras))
            networks = WatchedNetworks(device, weights_dtype=weights_dtype)
            networks.rows = []
            networks.load(model)
            studio.opened.append((choice, networks, model))
            return OpenModel(model, networks, has_lcm_lora and choice.use_lcm_lora)

        studio = Studio(
            StreamDiffusion(
                ServedModel(
                    open_model=open_model,
                    names=("small", "test/small"),
                    device=device,
                    params=SmallStreamDiffusionParams,
                    defaults={"prompt": "a", "t_index_list": [16, 32]},
                    max_batch=max_batch,
                    max_rows=max_rows,
                    free_bytes=lambda: studio.free_bytes,
                    uses_graphs=uses_graphs,
                )
            )
        )
        studio.pipeline.load()
        studios.append(studio)
        return studio

    yield make
    for studio in studios:
        studio.may_open.set()
        studio.pipeline.unload()


@pytest.fixture
def studio(make_studio: MakeStudio) -> Studio:
    return make_studio()


def scene(number: int) -> torch.Tensor:
    """A picture in [-1, 1] that differs from number to number."""
    generator = torch.Generator().manual_seed(100 + number)
    return torch.rand(3, SIDE, SIDE, generator=generator) * 2 - 1


def feed(studio: Studio, *frames: tuple[StreamState, torch.Tensor, int]) -> list[object]:
    """Runs one batch of (stream, picture, PTS); pictures are copied out of the results."""
    buffer = studio.pipeline.input_buffer(SIDE, SIDE)
    jobs = []
    for row, (stream, picture, pts_ticks) in enumerate(frames):
        buffer[row].copy_(picture)
        jobs.append(FrameJob(stream, buffer[row], pts_ticks))
    return [
        FrameResult(result.frame.clone(), result.pts_ticks, result.is_repeat)
        if isinstance(result, FrameResult)
        else result
        for result in studio.pipeline.run(jobs)
    ]


def shown(studio: Studio, stream: StreamState, numbers: range) -> list[FrameResult]:
    """Feeds scenes by number, which are their timestamps too; what came out, without gaps."""
    results = [feed(studio, (stream, scene(number), number))[0] for number in numbers]
    return [result for result in results if isinstance(result, FrameResult)]


def pictures(results: list[FrameResult]) -> torch.Tensor:
    return torch.stack([result.frame for result in results])
