"""Propagation from the first frame on."""

from glus_mm.models.selectors.base_key_frame_selector import BaseKeyFrameSelector, KeyFrames
from glus_mm.registry import MODELS
from glus_mm.structures import RefVOSDataSample
from glus_mm.video import FrameReader


@MODELS.register_module()
class FirstFrameSelector(BaseKeyFrameSelector):
    """The first frame for every expression: one forward pass over the video."""

    def select(self, reader: FrameReader, data_sample: RefVOSDataSample) -> KeyFrames:
        """See :meth:`BaseKeyFrameSelector.select`."""
        return KeyFrames([0] * len(data_sample.expressions))
