"""The studio with a small real model."""

from diffusion_studio import make_studio, studio

__all__ = ["make_studio", "studio"]
