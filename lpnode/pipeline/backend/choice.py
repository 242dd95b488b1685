"""Which backend runs a model's networks."""

from pathlib import Path

import torch

from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.networks import Networks, NetworkShapes
from lpnode.pipeline.backend.torch_networks import TorchNetworks


def choose_networks(
    model: DiffusionModel,
    *,
    device: str,
    dtype: torch.dtype,
    shapes: NetworkShapes,
    wanted: str = "auto",
    folder: Path,
) -> Networks:
    """Loads and prepares networks for a device. Raises: HostError, OutOfDeviceMemory."""
    networks = TorchNetworks(device, dtype)
    networks.load(model)
    networks.prepare(shapes)
    return networks
