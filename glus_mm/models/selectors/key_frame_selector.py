"""A key-frame selector that is trained: an MLLM scores every frame."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from glus_mm.models.losses import mean_over_processes
from glus_mm.models.segmentors.batch import distinct_frames
from glus_mm.models.selectors.base_key_frame_selector import (
    BaseKeyFrameSelector,
    KeyFrames,
    reference_frames,
)
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.utils.checked import checked
from glus_mm.utils.image import vision_tower_image
from glus_mm.utils.key_frames import best_frame
from glus_mm.utils.modules import check_keys
from glus_mm.utils.precision import default_dtype, parse_dtype, run_in_own_type, set_precision
from glus_mm.video import FrameReader

# Width of the second layer of the score MLP: Linear(D, D), ReLU, Linear(D, 256) are the MLLM's
# projector of answer tokens, ReLU, Linear(256, 1) follow here.
SCORE_DIM = 256


@dataclass(frozen=True)
class KeyFrameSelectorCfg:
    """``model.test_cfg`` of a :class:`KeyFrameSelector`; the defaults are the paper's.

    Attributes:
        num_reference: the most reference frames, see :func:`reference_frames`.
        max_expressions: expressions that are batched; more are worked off in chunks.
        need_token: a frame has a score only where ``[SCORE]`` is the most likely next token, as
            in the official code. False takes the score of any hidden state, so that a selector
            that was not trained has some.
    """

    num_reference: int = 8
    max_expressions: int = 16
    need_token: bool = True

    def __post_init__(self) -> None:
        checked(2, 'model.test_cfg.', num_reference=self.num_reference)
        checked(1, 'model.test_cfg.', max_expressions=self.max_expressions)
        checked(bool, 'model.test_cfg.', need_token=self.need_token)


@MODELS.register_module()
class KeyFrameSelector(BaseModel, BaseKeyFrameSelector):
    """Predict the IoU that GLUS would reach on each frame (paper, sections 4.4 and B.4).

    The MLLM sees reference frames, the target frame and the expression, and answers with
    ``[SCORE]``. The hidden state that predicts it goes through a three-layer MLP without a sigmoid;
    its first two layers are ``mllm.seg_projector``.

    A video's frames are scored in groups that share their reference frames, which are the group
    itself (:func:`reference_frames`): each frame is encoded once, the keys and values of the
    reference frames are computed once for a group, and no more than ``num_reference`` frames'
    tokens are held. Expressions are batched; the scores are those of one at a time.

    Args:
        mllm: config of a :class:`BaseMLLM` with a template whose answers are ``[SCORE]``.
        loss_score: config of the loss on scores, :class:`FrameScoreLoss`.
        loss_ce: config of the loss on the answer's tokens.
        test_cfg: fields of :class:`KeyFrameSelectorCfg`.
        dtype: type of frozen parameters, see :class:`GLUS`.
        data_preprocessor: config of a :class:`RefVOSDataPreprocessor`.
        init_cfg: as in MMEngine.
        checkpoint: its weights, where it is the ``model.test_cfg.selector`` of GLUS, which loads
            them; a model of its own is loaded as any other and has None here.
    """

    def __init__(self,
                 mllm: dict,
                 loss_score: dict | None = None,
                 loss_ce: dict | None = None,
                 test_cfg: dict | None = None,
                 dtype: str = 'float32',
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None,
                 checkpoint: str | None = None) -> None:
        preprocessor = build_child(MODELS, data_preprocessor or dict(type='RefVOSDataPreprocessor'))
        super().__init__(preprocessor, init_cfg)
        self.checkpoint = checkpoint
        with default_dtype(parse_dtype(dtype, 'model.dtype')):
            self.mllm = build_child(MODELS, mllm, seg_dim=SCORE_DIM)
        if dtype != 'float32':
            set_precision(self.mllm, parse_dtype(dtype, 'model.dtype'), self.mllm.precision_parts)
        self.score = nn.Linear(SCORE_DIM, 1)
        self.loss_score = build_child(MODELS, loss_score or dict(type='FrameScoreLoss'))
        self.loss_ce = build_child(MODELS, loss_ce or dict(type='TokenCELoss'))
        known = KeyFrameSelectorCfg.__dataclass_fields__
        self.test_cfg = KeyFrameSelectorCfg(
            **check_keys(dict(test_cfg or {}), known, 'model.test_cfg'))

    def forward(self, inputs: dict, data_samples: list[RefVOSDataSample] | None = None,
                mode: str = 'tensor'):
        """Dispatch as MMEngine's models do: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Arguments as in ``mmengine.model.BaseModel``.

        Raises:
            ValueError: ``mode`` is another word.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return self._forward(inputs)[0]
        raise ValueError(f'mode must be loss, predict or tensor, got {mode!r}')

    # Training

    def loss(self, inputs: dict, data_samples: list[RefVOSDataSample]) -> dict[str, Tensor]:
        """Losses of a batch of B videos.

        Args:
            inputs: lists of B: ``clip_imgs`` (Tc + Tq, 3, P, P), ``input_ids`` and ``labels``
                (E, L).
            data_samples: (B) with ``gt_scores`` (E, Tq).

        Returns:
            ``loss_score`` and ``loss_ce``, weighted means over all scores and all answer tokens
            of the batch, that of all processes.

        Raises:
            ValueError: the samples have true scores of another shape.
        """
        scores, logits, targets = self._forward(inputs, data_samples)
        true = torch.cat([sample.gt_scores for sample in data_samples]).to(scores.device)
        if true.shape != scores.shape:
            raise ValueError(f'expected a true score for each of the scores (N, Tq) = '
                             f'{tuple(scores.shape)}, got {tuple(true.shape)}')
        losses = dict(loss_score=self.loss_score(scores.flatten(), true.flatten()),
                      loss_ce=self.loss_ce(logits, targets))
        return mean_over_processes(losses, dict(loss_score=true.numel(), loss_ce=len(targets)))

    def _forward(self, inputs: dict, data_samples: Sequence[RefVOSDataSample] | None = None
                 ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (N, Tq), token logits (K, vocabulary) and their targets (K)."""
        video_of = [b for b, ids in enumerate(inputs['input_ids']) for _ in range(len(ids))]
        clips = inputs['clip_imgs']
        rows, place = distinct_frames(clips, data_samples, ['context_frame_ids', 'query_frame_ids'])
        visual = self.mllm.encode_images(torch.cat(tuple(clips))[rows])
        videos = visual[place].split([len(imgs) for imgs in clips])
        tokens, logits, targets = self.mllm(
            [torch.as_tensor(ids) for ids_of in inputs['input_ids'] for ids in ids_of],
            [torch.as_tensor(labels) for labels_of in inputs['labels'] for labels in labels_of],
            [videos[b] for b in video_of], 'answer', groups=video_of)
        return self._score(tokens.tokens), logits, targets

    def _score(self, tokens: Tensor) -> Tensor:
        """Scores (...) of projected hidden states (..., SCORE_DIM)."""
        return run_in_own_type(self.score, F.relu(tokens))[..., 0]

    # Inference

    def predict(self, inputs: dict,
                data_samples: list[RefVOSDataSample]) -> list[RefVOSDataSample]:
        """Choose key frames in whole videos.

        Args:
            inputs: ``reader``, a list of B frame readers.
            data_samples: (B), with the expressions.

        Returns:
            The data samples with ``pred_frame_scores`` and ``key_frame_ids``.
        """
        for reader, sample in zip(inputs['reader'], data_samples):
            keys = self.select(reader, sample)
            sample.pred_frame_scores, sample.key_frame_ids = keys.scores, keys.frame_ids
        return data_samples

    @torch.inference_mode()
    def select(self, reader: FrameReader, data_sample: RefVOSDataSample) -> KeyFrames:
        """Score every frame, and take the highest score of each expression.

        The later one of equal scores, and the middle frame (T // 2) for an expression without any
        score; see :meth:`BaseKeyFrameSelector.select`.

        Raises:
            ValueError: an expression cannot be used; the message names it.
        """
        expressions, num_frames = list(data_sample.expressions), len(reader)
        for expression in expressions:
            self.mllm.prompt(expression, 1, 1)
        scores = torch.full((len(expressions), num_frames), float('nan'))
        done = np.zeros(num_frames, dtype=bool)
        for first in range(num_frames):
            if done[first]:
                continue
            group = reference_frames(first, num_frames, self.test_cfg.num_reference)
            scores[:, group] = self._score_group(reader, group, expressions)
            done[group] = True
        silent = [text for text, row in zip(expressions, scores) if row.isnan().all()]
        if silent:
            print_log(f'no [SCORE] on any of {num_frames} frames of {reader.source}, which starts '
                      f'in the middle: {", ".join(map(repr, silent)):.200}', 'current',
                      logging.WARNING)
        return KeyFrames([best_frame(row) for row in scores.numpy()], scores)

    def _score_group(self, reader: FrameReader, group: list[int],
                     expressions: Sequence[str]) -> Tensor:
        """Scores (E, frames) of frames that are one another's reference frames."""
        visual = self._encode(reader, group)
        prompts = [self.mllm.prompt(expression, len(group), 1) for expression in expressions]
        cut = self.mllm.split_prefix(prompts[0], len(group))
        prefix = self.mllm.prefill(prompts[0][:cut], visual)
        rests, size = [prompt[cut:] for prompt in prompts], self.test_cfg.max_expressions
        scores = torch.empty(len(expressions), len(group))
        for i in range(0, len(rests), size):
            for t, tokens in enumerate(visual):
                seg = self.mllm.next_seg_tokens(rests[i:i + size], tokens[None], prefix)
                score = self._score(seg.tokens).float()
                if self.test_cfg.need_token:
                    score = score.masked_fill(~seg.is_seg, float('nan'))
                scores[i:i + size, t] = score.cpu()
        return scores

    def _encode(self, reader: FrameReader, frames: Sequence[int]) -> Tensor:
        """Visual tokens (frames, V, D)."""
        images = [vision_tower_image(reader.read(t), self.mllm.image_size, self.mllm.vision_crop)
                  for t in frames]
        images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return self.mllm.encode_images(self.data_preprocessor.normalize_vision(images))
