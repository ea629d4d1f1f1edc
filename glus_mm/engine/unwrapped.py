"""Tests on several processes without what a training needs around the model."""

from torch import nn

from glus_mm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class Unwrapped(nn.Module):
    """What ``tools/test.py`` names as ``model_wrapper_cfg``: does nothing but hand over.

    MMEngine wraps a model in DistributedDataParallel wherever there are several processes. For a
    test that is of no use, it takes memory for gradients, and it refuses a model that has nothing
    to train, such as one of the published size.

    Args:
        module: the model.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def test_step(self, data: dict) -> list:
        """As in ``mmengine.model.BaseModel``."""
        return self.module.test_step(data)
