"""Which pipeline serves a model id."""

from collections.abc import Callable, Mapping

from lpnode.errors import NotCapable
from lpnode.pipeline.edge_style import EdgeStyle
from lpnode.pipeline.passthrough import Passthrough
from lpnode.pipeline.pipeline import Pipeline

PipelineMaker = Callable[[str], Pipeline]
"""Makes an unloaded pipeline for a device (``cpu``, ``cuda:0``)."""


class Catalog:
    """Model ids and the pipelines that serve them; fixed once made."""

    def __init__(self, makers: Mapping[str, PipelineMaker]) -> None:
        self._makers = dict(makers)

    def __contains__(self, model_id: object) -> bool:
        return model_id in self._makers

    def model_ids(self) -> list[str]:
        """Every model id, in the order of declaration."""
        return list(self._makers)

    def create(self, model_id: str, device: str) -> Pipeline:
        """Makes a pipeline that is not loaded yet; cheap.

        Raises: NotCapable: no pipeline serves this model id.
        """
        maker = self._makers.get(model_id)
        if maker is None:
            raise NotCapable(f"unknown model {model_id!r}; this node knows {self.model_ids()}")
        return maker(device)


def built_in() -> Catalog:
    """Every pipeline of this build."""
    return Catalog(
        {
            "noop": _on_processor(Passthrough),
            "passthrough": _on_processor(Passthrough),
            "edge-style": _on_processor(EdgeStyle),
        }
    )


def _on_processor(make: Callable[[], Pipeline]) -> PipelineMaker:
    """For pipelines so light that taking frames to a device would cost more than the work."""
    return lambda device: make()
