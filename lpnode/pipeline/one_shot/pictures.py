"""What a request gets back."""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lpnode.pipeline.one_shot.one_shot_model import OneShotModel
from lpnode.pipeline.one_shot.params import PictureParams
from lpnode.pipeline.one_shot.sampling import SamplingPlan, Watch, sample
from lpnode.pipeline.open_model import OpenModel


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A finished picture.

    Attributes:
        rgb: (H, W, 3) uint8.
        seed: gives the same picture again, with the same parameters.
        nsfw: the safety checker flagged it; the picture is unchanged.
        is_checked: whether a safety checker looked at all.
        elapsed_s: its share of the time that its batch took, without prompts and loading.
    """

    rgb: NDArray[np.uint8]
    seed: int
    nsfw: bool
    is_checked: bool
    elapsed_s: float


def seeds_of(params: PictureParams) -> list[int]:
    """The seed of each picture: they count on from the first. Source: ai-http.md section 7."""
    first = secrets.randbits(32) if params.seed is None else params.seed
    return [first + index for index in range(params.num_images_per_prompt)]


def make_pictures(
    model: OneShotModel,
    opened: OpenModel,
    params: PictureParams,
    plan: SamplingPlan,
    watch: Watch,
) -> list[Picture]:
    """Makes the pictures of a plan and has them looked at, if that was asked for.

    Raises: JobCancelled, OutOfDeviceMemory, DeviceError, HostError: as ``sample``.
    Source: ai-http.md section 7.
    """
    samples = list(sample(opened, plan, max_rows=model.max_rows, watch=watch))
    flags = model.flags([one.rgb for one in samples]) if params.safety_check else None
    return [
        Picture(
            rgb=one.rgb,
            seed=one.seed,
            nsfw=flags is not None and flags[index],
            is_checked=flags is not None,
            elapsed_s=one.elapsed_s,
        )
        for index, one in enumerate(samples)
    ]
