"""Train a part of GLUS alone."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from glus_mm.models.segmentors.batch import draw_points
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checked import checked


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
        checked(float, 'model.', drop_prompt=drop_prompt)
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
        logits, target = logits.flatten(0, 1), target.flatten(0, 1)
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


@MODELS.register_module()
class VisionPretrainer(BasePretrainer):
    """Teach vision tower and projector to say what is where, token by token, without the LLM.

    Of each projected visual token a linear map reads whether an object is there, and if so, its
    centre, its size and whether it is lit. Its look is read as CLIP does it, by comparing the token
    with embeddings of words; these are the LLM's own input embeddings, so that in the next stage
    words and visual tokens already mean the same. The MLLM is the one that GLUS uses, and its
    weights load into it by name.

    Args:
        mllm: config of a :class:`LlavaMLLM`.
        words: the words of each attribute of an object that :class:`LoadObjects` provides.
        coverage: least part of its cell that an object covers where a token shows it.
        scale: factor of the tokens before they are read; the larger it is, the smaller the tokens
            become beside the embeddings of words.
        tie_keys: start the keys of the LLM's attention as its queries. It then begins by looking at
            what is alike, which is how words find the tokens that they name.
        data_preprocessor: config of a :class:`RefVOSDataPreprocessor`.
        init_cfg: as in MMEngine.

    Raises:
        ValueError: a word is not a single token.
    """

    def __init__(self,
                 mllm: dict,
                 words: Mapping[str, Sequence[str]],
                 coverage: float = 0.15,
                 scale: float = 2.0,
                 tie_keys: bool = True,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.mllm = build_child(MODELS, mllm)
        self.words = {name: list(some) for name, some in words.items()}
        self.word_ids = {name: [self._token_id(word) for word in some]
                         for name, some in self.words.items()}
        self.coverage = coverage
        self.scale = scale
        # Object or not, lit or not, centre (x, y), size.
        self.reader = nn.Linear(self.mllm.llm.config.hidden_size, 5)
        if tie_keys:
            with torch.no_grad():
                for layer in self.mllm.llm.layers:
                    layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)

    def _token_id(self, word: str) -> int:
        first, *rest = self.mllm.tokenizer.encode(f'the {word}')[1:]
        if rest:
            raise ValueError(f'model.words: expected words of one token of model.mllm.tokenizer, '
                             f'got {word!r}, which has {1 + len(rest)}')
        return first

    def loss(self, inputs: dict, data_samples: list[RefVOSDataSample]) -> dict[str, Tensor]:
        """Losses of a batch of B videos.

        Args:
            inputs: ``clip_imgs``, a list of B (F, 3, P, P).
            data_samples: (B) with what :class:`LoadObjects` adds.

        Returns:
            ``loss_object``, ``loss_lit``, ``loss_place``, ``loss_size`` and ``loss_<attribute>``,
            and for the log ``acc_<attribute>`` and ``place_error``, a part of the side.
        """
        tokens = self.mllm.encode_images(torch.cat(inputs['clip_imgs'])) * self.scale
        shown, lit, place, size, words = [], [], [], [], {name: [] for name in self.words}
        for sample in data_samples:
            cells = sample.object_cells.flatten(2)  # (O, F, V)
            most, which = cells.max(0)
            shown.append(most > self.coverage)
            frames = torch.arange(cells.shape[1], device=cells.device)[:, None]
            lit.append(sample.object_lit[which, frames])
            place.append(sample.object_centres[which, frames])
            size.append(sample.object_sizes[which, frames])
            for name, known in self.words.items():
                number = torch.tensor([known.index(looks[name]) for looks in sample.object_words],
                                      device=cells.device)
                words[name].append(number[which])
        shown = torch.cat(shown)
        read = self.reader(tokens)
        there, tokens = read[shown], tokens[shown]
        place, size = torch.cat(place)[shown], torch.cat(size)[shown]
        losses = dict(
            loss_object=F.binary_cross_entropy_with_logits(read[..., 0], shown.float()),
            loss_lit=F.binary_cross_entropy_with_logits(
                there[:, 1], torch.cat(lit)[shown].float()),
            loss_place=8 * F.smooth_l1_loss(there[:, 2:4], place, beta=0.05),
            loss_size=4 * F.smooth_l1_loss(there[:, 4], size, beta=0.05),
            place_error=(there[:, 2:4] - place).detach().abs().mean())
        embeddings = self.mllm.llm.get_input_embeddings().weight
        for name, numbers in words.items():
            target = torch.cat(numbers)[shown]
            logits = tokens @ embeddings[self.word_ids[name]].T
            losses[f'loss_{name}'] = F.cross_entropy(logits, target)
            losses[f'acc_{name}'] = (logits.argmax(1) == target).float().mean()
        return losses
