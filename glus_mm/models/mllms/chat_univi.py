"""Chat-UniVi: LLaVA v1 whose visual tokens are merged by clustering."""

from collections.abc import Sequence

import torch
from torch import Tensor

from glus_mm.models.mllms.llava import LlavaMLLM
from glus_mm.models.mllms.token_clustering import SPATIAL_NEIGHBOURS, merge_frames, merge_video
from glus_mm.registry import MODELS
from glus_mm.utils.precision import run_in_own_type

# Frames that go through the vision tower at once.
_CHUNK = 16


@MODELS.register_module()
class ChatUniViMLLM(LlavaMLLM):
    """Chat-UniVi (CVPR 2024): the network of LLaVA v1, and clustering between tower and projector.

    The clustering has no weights, so that a checkpoint has the names of LLaVA v1. A frame becomes
    64 + 32 + 16 = 112 tokens, each level made of the one before. :meth:`encode_video` is
    Chat-UniVi's way for whole videos, which questions in words take (``projects/video_qa``).

    Chat-UniVi itself clusters in bfloat16 and breaks ties of density with the global random
    generator; here distances are float32 and the generator has a seed.

    Args:
        vision_tower, llm, seg_dim: as for :class:`LlavaMLLM`, likewise those not listed here.
        tokenizer, template: likewise.
        spatial_clusters: tokens of the three levels.
        temporal_cluster_rate: events per frame of a video.
        cluster_seed: of the numbers that break ties of density.
        vision_select_layer, vision_crop, lora, trainable: as for :class:`LlavaMLLM`.
        gradient_checkpointing: likewise.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 vision_tower: dict,
                 llm: dict,
                 seg_dim: int,
                 tokenizer: str = 'tiny',
                 template: str = 'llava_v1',
                 spatial_clusters: Sequence[int] = (64, 32, 16),
                 temporal_cluster_rate: float = 1 / 16,
                 cluster_seed: int = 0,
                 vision_select_layer: int = -2,
                 vision_crop: str = 'center',
                 lora: dict | None = None,
                 trainable: Sequence[str] | None = None,
                 gradient_checkpointing: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(
            vision_tower, llm, seg_dim, tokenizer=tokenizer, template=template, pooling='none',
            vision_select_layer=vision_select_layer, vision_crop=vision_crop, lora=lora,
            trainable=trainable, gradient_checkpointing=gradient_checkpointing, init_cfg=init_cfg)
        # Numbers that the patches allow; ratios are not taken.
        patches = (self.image_size // self.vision_tower.config.patch_size)**2
        self.spatial_clusters, levels = tuple(spatial_clusters), len(SPATIAL_NEIGHBOURS)
        if len(self.spatial_clusters) != levels or not all(
                type(n) is int and 1 <= n <= limit
                for n, limit in zip(self.spatial_clusters, (patches, *self.spatial_clusters))):
            raise ValueError(
                f'model.mllm.spatial_clusters must be {levels} integers, none larger than the one '
                f'before and than the {patches} patches of a frame, got {self.spatial_clusters}')
        self.tokens_per_image = sum(self.spatial_clusters)
        if not 0 < temporal_cluster_rate <= 1:
            raise ValueError('model.mllm.temporal_cluster_rate must be in (0, 1], '
                             f'got {temporal_cluster_rate!r}')
        self.temporal_cluster_rate = temporal_cluster_rate
        self.cluster_seed = cluster_seed

    def encode_video(self, imgs: Tensor) -> Tensor:
        """Visual tokens of a video: its frames are clustered into events, see :func:`merge_video`.

        Args:
            imgs: (T, 3, P, P), normalised.

        Returns:
            (events * V, D) with ceil(T * temporal_cluster_rate) events; (T * V, D) for one or
            two frames.

        Raises:
            ValueError: there is no frame, or the frames have another size.
        """
        if not len(imgs):
            raise ValueError('expected a video with at least one frame, got none')
        tokens = torch.cat([self._patch_tokens(part) for part in imgs.split(_CHUNK)])
        return run_in_own_type(self.projector, merge_video(
            tokens, self.spatial_clusters, self.temporal_cluster_rate, self.cluster_seed))

    def _pool(self, tokens: Tensor) -> Tensor:
        """Tokens (M, V, width) of frames (M, patches, width): the three levels one after another.
        """
        return torch.cat(merge_frames(tokens, self.spatial_clusters, self.cluster_seed), 1)
