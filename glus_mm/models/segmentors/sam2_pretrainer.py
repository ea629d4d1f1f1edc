"""Stage 0 of training from scratch: what a pretrained SAM-2 brings to GLUS."""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glus_mm.models.segmentors.base_pretrainer import BasePretrainer
from glus_mm.models.segmentors.clicks import draw_points
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample


@MODELS.register_module()
class SAM2Pretrainer(BasePretrainer):
    """Teach the SAM-2 part to segment and to track from point prompts, without a language model.

    The first query frame is prompted with a point on each part of the object or objects. Later
    frames are too, or, with ``drop_prompt``, with SAM-2's "not a point", so that only the memory
    tells which object is meant. The mask head is the one that GLUS uses, so its weights load into
    it by name.

    Args:
        mask_head: config of a :class:`SAM2MemoryHead`.
        drop_prompt: share of the later frames whose point is left out.
        loss_mask_bce: config of the first mask loss.
        loss_mask_dice: config of the second mask loss.
        seed: of the points and of what is left out.
        data_preprocessor: config of a :class:`RefVOSDataPreprocessor`.
        init_cfg: as in MMEngine.
    """

    def __init__(self,
                 mask_head: dict,
                 drop_prompt: float = 0.5,
                 loss_mask_bce: dict | None = None,
                 loss_mask_dice: dict | None = None,
                 seed: int = 0,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if not 0 <= drop_prompt <= 1:
            raise ValueError(f'model.drop_prompt must be in 0..1, got {drop_prompt!r}')
        self.mask_head = build_child(MODELS, mask_head)
        self.loss_mask_bce = build_child(MODELS, loss_mask_bce or dict(type='MaskBCELoss'))
        self.loss_mask_dice = build_child(MODELS, loss_mask_dice or dict(type='MaskDiceLoss'))
        self.drop_prompt = drop_prompt
        self.generator = torch.Generator().manual_seed(seed)

    def loss(self, inputs: dict, data_samples: list[RefVOSDataSample]) -> dict[str, Tensor]:
        """Losses of a batch of B videos.

        Args:
            inputs: ``sam_imgs``, a list of B (Tq, 3, S, S).
            data_samples: (B) with ``gt_masks`` (E, Tq, H, W); expressions whose object is not
                visible on the first query frame are left out.

        Returns:
            ``loss_mask_bce``, ``loss_mask_dice`` and ``iou``, the mean mask IoU for the log.
        """
        num_query = len(inputs['sam_imgs'][0])
        feats = self.mask_head.extract_feat(torch.cat(inputs['sam_imgs']))
        side = self.mask_head.image_size
        targets, first = [], []
        for b, sample in enumerate(data_samples):
            masks = F.interpolate(sample.gt_masks.float(), (side, side), mode='nearest')
            masks = masks[masks[:, 0].flatten(1).any(1)]
            targets.append(masks)
            first += [b * num_query] * len(masks)
        target = torch.cat(targets)
        if not first:
            zero = feats.top.sum() * 0
            return dict(loss_mask_bce=zero, loss_mask_dice=zero, iou=zero.detach())
        index = torch.tensor(first, device=target.device)
        memory = [self.mask_head.new_memory() for _ in first]
        logits = []
        for q in range(num_query):
            pred = self.mask_head(
                feats.select(index + q), self._point_tokens(target[:, q], drop=q > 0), memory, q)
            if q < num_query - 1:
                for bank, entry in zip(memory, self.mask_head.encode_memory(pred)):
                    bank.add(q, entry)
            logits.append(pred.low_res_logits)
        logits = F.interpolate(
            torch.stack(logits, 1), (side, side), mode='bilinear', align_corners=False)
        return self._losses(logits.flatten(0, 1), target.flatten(0, 1))

    def _losses(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        pred, true = logits.detach() > 0, target > 0
        union = (pred | true).flatten(1).sum(1).clamp(min=1)
        return dict(
            loss_mask_bce=self.loss_mask_bce(logits, target).mean(),
            loss_mask_dice=self.loss_mask_dice(logits, target).mean(),
            iou=((pred & true).flatten(1).sum(1) / union).mean())

    def _point_tokens(self, masks: Tensor, drop: bool) -> Tensor:
        """A prompt for each mask (N, S, S), as a seg token is one: (N, C).

        It is the mean of what SAM-2's prompt encoder makes of a point on each part of the mask, so
        that the decoder learns to read several places from one token, as "both circles" needs.
        """
        owners, parts = [], []
        for row, mask in enumerate((masks > 0).cpu().numpy()):
            _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
            areas = stats[1:, cv2.CC_STAT_AREA]
            # A mask without a pixel has one part, which has none either.
            kept = np.flatnonzero(areas >= 0.1 * areas.max(initial=0)) if len(areas) else [0]
            owners += [row] * len(kept)
            parts += [torch.from_numpy(labels == part + 1) for part in kept]
        owner, parts = torch.tensor(owners), torch.stack(parts)
        coords = draw_points(parts, 1, self.generator)
        labels = torch.where(parts.flatten(1).any(1), 1, -1)
        if drop:
            dropped = torch.rand(len(masks), generator=self.generator) < self.drop_prompt
            labels[dropped[owner]] = -1
        tokens = self.mask_head.point_tokens(
            coords.to(masks.device), labels[:, None].to(masks.device))[:, 0]
        share = F.one_hot(owner, len(masks)).to(tokens).t()
        return share / share.sum(1, keepdim=True) @ tokens
