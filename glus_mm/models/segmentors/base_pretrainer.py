"""What the stages before GLUS have in common."""

from mmengine.model import BaseModel
from torch import Tensor

from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample


class BasePretrainer(BaseModel):
    """A model that is only trained: its weights go into GLUS, by name.

    Args:
        data_preprocessor: config of a :class:`RefVOSDataPreprocessor`.
        init_cfg: as in MMEngine.
    """

    def __init__(self, data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(build_child(
            MODELS, data_preprocessor or dict(type='RefVOSDataPreprocessor')), init_cfg)

    def forward(self, inputs: dict, data_samples: list[RefVOSDataSample],
                mode: str = 'loss') -> dict[str, Tensor]:
        """Only ``'loss'``: the model that is tested is GLUS.

        Arguments as in ``mmengine.model.BaseModel``.

        Raises:
            ValueError: ``mode`` is another word.
        """
        if mode != 'loss':
            raise ValueError(f'{type(self).__name__} only trains, got mode {mode!r}')
        return self.loss(inputs, data_samples)

    def loss(self, inputs: dict, data_samples: list[RefVOSDataSample]) -> dict[str, Tensor]:
        """Losses of a batch, scalars by name; see :meth:`GLUS.loss`."""
        raise NotImplementedError
