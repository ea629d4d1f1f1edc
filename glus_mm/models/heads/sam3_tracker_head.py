"""The tracker of SAM 3 as the mask head of GLUS."""

from collections.abc import Sequence

from glus_mm.models.heads.memory_head import MemoryHead
from glus_mm.models.heads.transformers_parts import load_tracker
from glus_mm.registry import MODELS


@MODELS.register_module()
class Sam3TrackerHead(MemoryHead):
    """SAM 3's tracker, from transformers: a plain ViT sees the frames, the rest is as in SAM-2.

    Images are of side 1008 and patches of 14, so that there are 72 x 72 memories of a frame and
    masks of 288 x 288. Images are normalised otherwise than those of SAM-2: give
    ``data_preprocessor`` ``sam_mean`` and ``sam_std`` of 0.5. The memories are GLUS's, see
    :class:`MemoryBank`: no object pointers, no temporal encoding. Weights have the names of
    :class:`SAM2MemoryHead`, but for the image encoder.

    Args:
        model: a folder or a repository on the hub (``'facebook/sam3'``, to which access has to be
            asked for), whose weights are loaded, or arguments of ``Sam3TrackerVideoConfig``.
        image_size: side S of the input, a multiple of the side of its patches.
        patch_size: that side.
        dynamic_multimask: see :func:`build_sam2`.
        detach_memory: see :class:`MemoryHead`.
        checkpoint_memory: likewise.
        memory_bank: likewise.
        trainable: likewise.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 model: str | dict = 'facebook/sam3',
                 image_size: int = 1008,
                 patch_size: int = 14,
                 dynamic_multimask: bool = True,
                 detach_memory: bool = False,
                 checkpoint_memory: bool = False,
                 memory_bank: dict | None = None,
                 trainable: Sequence[str] | None = None,
                 init_cfg: dict | None = None) -> None:
        parts = load_tracker('Sam3TrackerVideo', model, image_size, patch_size, dynamic_multimask)
        super().__init__(parts, image_size, patch_size, detach_memory, checkpoint_memory,
                         memory_bank, trainable, init_cfg)
