"""Which pipeline serves a model id."""

from collections.abc import Callable, Mapping

from lpnode.errors import NotCapable
from lpnode.pipeline.edge_style import EdgeStyle
from lpnode.pipeline.open_model import DiffusionConfig
from lpnode.pipeline.passthrough import Passthrough
from lpnode.pipeline.pipeline import Pipeline
from lpnode.pipeline.stream_diffusion.offer import is_offered, offered_ids, stream_diffusion

PipelineMaker = Callable[[str], Pipeline]
"""Makes an unloaded pipeline for a device (``cpu``, ``cuda:0``)."""


class Catalog:
    """Model ids and the pipelines that serve them; fixed once made.

    Args:
        makers: pipelines by model id.
        diffusion: where diffusion models are; None: none are served.
    """

    def __init__(
        self, makers: Mapping[str, PipelineMaker], diffusion: DiffusionConfig | None = None
    ) -> None:
        self._makers = dict(makers)
        self._diffusion = diffusion

    def __contains__(self, model_id: object) -> bool:
        if model_id in self._makers:
            return True
        diffusion = self._diffusion
        return (
            diffusion is not None and isinstance(model_id, str) and is_offered(model_id, diffusion)
        )

    def model_ids(self) -> list[str]:
        """Every model id that has a name here, in the order of declaration.

        Folders of diffusion models are served beside them, by the folder's name.
        """
        return [*self._makers, *(offered_ids() if self._diffusion else ())]

    def create(self, model_id: str, device: str) -> Pipeline:
        """Makes a pipeline that is not loaded yet; cheap. Raises: as ``maker``."""
        return self.maker(model_id)(device)

    def maker(self, model_id: str) -> PipelineMaker:
        """What makes the pipelines of a model id, now that its weights were found.

        Should they go away, it is loading that fails, which is one model's affair.

        Raises:
            NotCapable: no pipeline serves this model id.
            ConfigError: its weights are not there; says how to get them.
        """
        maker = self._makers.get(model_id)
        if maker is None and model_id in self and self._diffusion is not None:
            maker = stream_diffusion(model_id, self._diffusion)
        if maker is None:
            raise NotCapable(f"unknown model {model_id!r}; this node knows {self.model_ids()}")
        return maker


def built_in(diffusion: DiffusionConfig | None = None) -> Catalog:
    """Every pipeline of this build; diffusion models if it is said where they are."""
    return Catalog(
        {
            "noop": _on_processor(Passthrough),
            "passthrough": _on_processor(Passthrough),
            "edge-style": _on_processor(EdgeStyle),
        },
        diffusion,
    )


def _on_processor(make: Callable[[], Pipeline]) -> PipelineMaker:
    """For pipelines so light that taking frames to a device would cost more than the work."""
    return lambda device: make()
