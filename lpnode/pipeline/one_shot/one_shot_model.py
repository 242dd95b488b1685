"""A model in memory, for requests that come one at a time."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lpnode.errors import BadParameters, InvalidArgument, OutOfDeviceMemory
from lpnode.model.diffusion_model import ModelTraits
from lpnode.pipeline.backend.networks import NetworkShapes
from lpnode.pipeline.one_shot.params import Loras, PictureParams
from lpnode.pipeline.one_shot.safety import SafetyChecker
from lpnode.pipeline.open_model import OpenModel

_log = logging.getLogger(__name__)

Size = tuple[int, int]
"""(width, height) in pixels."""

SizeOf = Callable[[ModelTraits], Size]
"""The size of pictures, for a model of some traits."""

OpenWithLoras = Callable[[Loras, Callable[[ModelTraits], NetworkShapes]], OpenModel]
"""Loads the model with LoRAs fused, and its networks for the shapes that its traits lead to.

Raises: HostError, BadParameters."""


def native_size(traits: ModelTraits) -> Size:
    """The size of the pictures that a model was trained on."""
    return traits.native_size, traits.native_size


class OneShotModel:
    """One model and its networks; every method is called from one thread, and blocks.

    One set of weights is in memory at a time: a request with other LoRAs replaces it.
    """

    def __init__(
        self,
        open_model: OpenWithLoras,
        *,
        names: Sequence[str],
        max_rows: int = 8,
        load_safety_checker: Callable[[], SafetyChecker | None] = lambda: None,
    ) -> None:
        """Touches no device.

        Args:
            names: what a request may call the model; the first is its own.
            max_rows: most rows in one UNet call; a picture with guidance takes two.
            load_safety_checker: gives None where the model comes without.
        """
        if max_rows < 2:
            raise InvalidArgument(f"max_rows must be 2 or more, got {max_rows}")
        self.max_rows = max_rows
        self._open_model = open_model
        self._names = tuple(names)
        self._load_safety_checker = load_safety_checker
        self._checker: SafetyChecker | None = None
        self._has_looked_for_checker = False
        self._opened: OpenModel | None = None
        self._loras: Loras = ()
        self._prepared: set[Size] = set()

    def load(self, loras: Loras = (), size_of: SizeOf = native_size) -> OpenModel:
        """The model with these LoRAs fused, prepared for a size.

        What is in memory already is not loaded again.

        Raises: HostError: it cannot be loaded. BadParameters: there is no such LoRA.
        """
        opened = self._opened
        if opened is None or loras != self._loras:
            try:
                opened = self._open(loras, size_of)
            except OutOfDeviceMemory:
                if self._opened is None:
                    raise
                self._drop()  # both do not fit
                opened = self._open(loras, size_of)
            self._drop()
            self._opened, self._loras = opened, loras
            self._prepared.add(size_of(opened.model.traits))
        elif (size := size_of(opened.model.traits)) not in self._prepared:
            opened.networks.prepare(self._shapes(size))
            self._prepared.add(size)
        return opened

    def load_for(self, params: PictureParams, size: Size) -> OpenModel:
        """The model that a request wants. Raises: BadParameters: another one. As ``load``.

        Source: ai-http.md section 10.3.
        """
        if params.model_id and params.model_id not in self._names:
            raise BadParameters(
                f"pipeline configured with {self._names[0]} but called with {params.model_id}."
            )
        try:
            return self.load(params.loras, lambda _: size)
        except BadParameters as error:
            raise BadParameters(f"loras: {error}") from error

    def flags(self, pictures: Sequence[NDArray[np.uint8]]) -> list[bool] | None:
        """Whether each (H, W, 3) RGB picture is flagged; None where nobody can look.

        Raises: HostError: the model's checker cannot be loaded.
        """
        if not self._has_looked_for_checker:
            self._checker = self._load_safety_checker()
            self._has_looked_for_checker = True
            if self._checker is None:
                _log.info("%s has no safety checker: its pictures go out unchecked", self._names[0])
        return None if self._checker is None else self._checker.flags(pictures)

    def unload(self) -> None:
        """Returns the memory; ``load`` may be called again."""
        self._drop()
        self._checker = None
        self._has_looked_for_checker = False

    def _open(self, loras: Loras, size_of: SizeOf) -> OpenModel:
        return self._open_model(loras, lambda traits: self._shapes(size_of(traits)))

    def _shapes(self, size: Size) -> NetworkShapes:
        width, height = size
        return NetworkShapes(
            width=width, height=height, max_images=self.max_rows, max_rows=self.max_rows
        )

    def _drop(self) -> None:
        opened, self._opened = self._opened, None
        self._prepared.clear()
        if opened is not None:
            opened.unload()
