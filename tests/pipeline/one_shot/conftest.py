"""Small real models that make pictures."""

from picture_models import open_pictures

__all__ = ["open_pictures"]
