"""Classifier-free guidance and its cheaper residual kinds: how many rows, and what is mixed."""

from enum import StrEnum

import torch


class GuidanceMode(StrEnum):
    """Where the negative prediction comes from. Source: streamdiffusion.md section 6."""

    NONE = "none"
    FULL = "full"
    """A negative row beside every row."""
    SELF = "self"
    """A running estimate of the frame's own noise; costs no row."""
    INITIALIZE = "initialize"
    """As ``SELF``, refreshed by one negative row for the newest frame."""

    def active(self, guidance_scale: float) -> "GuidanceMode":
        """The mode that is left when ``guidance_scale`` guides nothing, which is at 1 and below.

        ``INITIALIZE`` goes on as ``SELF`` then, so that its estimate is current when the scale
        rises again. Source: streamdiffusion.md sections 4 and 17, quirk 2.
        """
        return self if guidance_scale > 1.0 else _INACTIVE[self]

    def num_rows(self, num_steps: int) -> int:
        """UNet rows a frame. Source: streamdiffusion.md section 4."""
        match self:
            case GuidanceMode.FULL:
                return 2 * num_steps
            case GuidanceMode.INITIALIZE:
                return num_steps + 1
            case _:
                return num_steps

    def num_negative_rows(self, num_steps: int) -> int:
        """How many of them, the first ones, are conditioned on the negative prompt."""
        return self.num_rows(num_steps) - num_steps

    @property
    def keeps_stock_noise(self) -> bool:
        """Whether an estimate of the noise is carried from frame to frame."""
        return self in (GuidanceMode.SELF, GuidanceMode.INITIALIZE)


_INACTIVE = {
    GuidanceMode.NONE: GuidanceMode.NONE,
    GuidanceMode.FULL: GuidanceMode.NONE,
    GuidanceMode.SELF: GuidanceMode.SELF,
    GuidanceMode.INITIALIZE: GuidanceMode.SELF,
}


def guided(
    conditional: torch.Tensor, negative: torch.Tensor, guidance_scale: torch.Tensor
) -> torch.Tensor:
    """e_u + g·(e_c - e_u), and exactly e_c where g is 1."""
    return torch.lerp(negative, conditional, guidance_scale)
