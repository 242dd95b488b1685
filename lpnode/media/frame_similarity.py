"""How alike two frames on a CUDA device are, in one pass over both."""

import torch

from lpnode._native import media


class FrameSimilarity:
    """The sums that a cosine is made of, left on the device. Used from one thread.

    Torch would convert both frames to float32 and read them three times. Acts on the device's
    current stream, allocates nothing after it is made, and does not wait; may be captured.
    Raises: NotBuilt: a build without CUDA.
    """

    def __init__(self, device: torch.device) -> None:
        media.require_device_convert()
        self._device = device
        self._scratch = torch.empty(media.SIMILARITY_PARTS, 3, device=device)
        self._sums = torch.empty(1, 3, device=device)

    def enqueue(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Launches the kernels for two frames (3, H, W) of one dtype: float32, float16, bfloat16.

        Returns: (3,) float32 on the device: the sums of first·second, first² and second², summed
            in float32 in a fixed order; overwritten by the next call.
        """
        stream = torch.cuda.current_stream(self._device)
        media.frame_similarity(first, second, self._scratch, self._sums, stream.cuda_stream)
        return self._sums[0]
