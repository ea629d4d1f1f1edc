"""Tests on several processes without a wrapper around the model."""

from torch import nn

from glus_mm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class Unwrapped:
    """What ``tools/test.py`` names as ``model_wrapper_cfg``: gives the model back as it is.

    MMEngine wraps a model in DistributedDataParallel wherever there are several processes. For a
    test that is of no use, it takes memory for gradients, and it refuses a model that has nothing
    to train, such as one of the published size.

    Args:
        module: the model.

    Returns:
        ``module`` itself, and no instance of this class.
    """

    def __new__(cls, module: nn.Module) -> nn.Module:
        """See the class."""
        return module
