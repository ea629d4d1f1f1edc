"""SAM-2's features of a session's frame, for propagators that run SAM-2 themselves."""


import torch

from glus_mm.models.heads import SAM2Features, SAM2MemoryHead
from glus_mm.models.inference import VideoSession
from glus_mm.models.segmentors import GLUS
from glus_mm.utils.image import sam2_image


@torch.no_grad()
def frame_features(model: GLUS, session: VideoSession, frame_idx: int,
                   head: SAM2MemoryHead | None = None) -> SAM2Features:
    """Features of one frame (M = 1).

    Args:
        model: whose preprocessor normalises the frame.
        session: state of the video. Features of the model's own mask head go through its cache.
        frame_idx: 0-based position.
        head: another SAM-2 than the model's; its features are not kept.
    """
    encoder = model.mask_head if head is None else head

    def encode() -> SAM2Features:
        image = sam2_image(session.frame(frame_idx), encoder.image_size)
        return encoder.extract_feat(model.data_preprocessor.normalize_sam(image)[None])

    return encode() if head is not None else session.sam_features.get(frame_idx, encode)
