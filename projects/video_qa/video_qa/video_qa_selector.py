"""An off-the-shelf key-frame selector: a video MLLM is asked for the relevant moment."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from glus_mm.models.losses import mean_over_processes
from glus_mm.models.selectors import BaseKeyFrameSelector, KeyFrames
from glus_mm.registry import MODELS, build_child
from glus_mm.structures import RefVOSDataSample
from glus_mm.text.prompt import clean_expression
from glus_mm.utils.checked import checked
from glus_mm.utils.image import vision_tower_image
from glus_mm.utils.modules import check_keys
from glus_mm.utils.precision import default_dtype, parse_dtype, set_precision
from glus_mm.video import FrameReader
from video_qa.base_video_qa import AnswerCfg
from video_qa.moment_answer import (
    QUESTIONS,
    UNITS,
    frame_at,
    parse_moment,
    shown_frames,
)

FALLBACKS = ('middle', 'first', 'error')


@dataclass(frozen=True)
class VideoQACfg(AnswerCfg):
    """``model.test_cfg`` of a :class:`VideoQASelector`; the mean of the answers that name a moment
    counts.

    Attributes:
        num_frames: the most frames that the model is shown.
        unit: what is asked for, ``'percent'``, ``'frame'`` or ``'time'``.
        question: text with ``{x}`` for the expression, and possibly ``{frames}`` for how many
            frames are shown and ``{seconds}``; by default that of the unit.
        fps: frames per second, for ``'time'``; by default what the video file says.
        seed: of the drawing; the answers to an expression depend on it, on the video's and the
            expression's id, and on nothing else.
        fallback: what to do where no answer names a moment: start at the ``'middle'`` (T // 2) or
            the ``'first'`` frame, which is logged, or raise an ``'error'``.
    """

    num_frames: int = 64
    unit: str = 'percent'
    question: str | None = None
    fps: float | None = None
    seed: int = 0
    fallback: str = 'middle'

    def __post_init__(self) -> None:
        checked(1, 'model.test_cfg.', num_frames=self.num_frames)
        checked(UNITS, 'model.test_cfg.', unit=self.unit)
        checked(FALLBACKS, 'model.test_cfg.', fallback=self.fallback)
        if self.question is not None and '{x}' not in self.question:
            raise ValueError('model.test_cfg.question must have {x} in it, where the expression '
                             f'stands, got {self.question!r}')
        if self.fps is not None and not 0 < self.fps < float('inf'):
            raise ValueError(f'model.test_cfg.fps must be a positive number, got {self.fps!r}')
        try:
            super().__post_init__()
        except ValueError as error:
            raise ValueError(f'model.test_cfg: {error}') from error


@MODELS.register_module()
class VideoQASelector(BaseModel, BaseKeyFrameSelector):
    """Key frames from the answers of a video MLLM (table 5 of the paper).

    The paper takes the off-the-shelf selectors of VISA, which asks for a percentage mark of the
    video, ten times, and takes the mean. There are no scores of frames. It is used as it is, or
    trained on talk whose questions are those that it is asked.

    Args:
        mllm: config of a :class:`BaseVideoQA`; ``ChatUniViMLLM`` stands for
            ``ChatUniViVideoQA``, which has the same weights.
        loss_ce: config of the loss on the answers' tokens, for training; None freezes all.
        test_cfg: fields of :class:`VideoQACfg`.
        dtype: type of the frozen parameters, see :class:`GLUS`.
        data_preprocessor: config of a :class:`RefVOSDataPreprocessor`.
        init_cfg: as in MMEngine.
        checkpoint: its weights, see :class:`KeyFrameSelector`.
    """

    def __init__(self,
                 mllm: dict,
                 loss_ce: dict | None = None,
                 test_cfg: dict | None = None,
                 dtype: str = 'float32',
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None,
                 checkpoint: str | None = None) -> None:
        preprocessor = build_child(MODELS, data_preprocessor or dict(type='RefVOSDataPreprocessor'))
        super().__init__(preprocessor, init_cfg)
        self.checkpoint = checkpoint
        known = VideoQACfg.__dataclass_fields__
        self.test_cfg = VideoQACfg(**check_keys(dict(test_cfg or {}), known, 'model.test_cfg'))
        if isinstance(mllm, dict) and mllm.get('type') == 'ChatUniViMLLM':
            # As converters wrote it while the package had this class.
            mllm = dict(mllm, type='ChatUniViVideoQA')
        kind = parse_dtype(dtype, 'model.dtype')
        with default_dtype(kind):
            self.mllm = build_child(MODELS, mllm)
        self.loss_ce = None if loss_ce is None else build_child(MODELS, loss_ce)
        if self.loss_ce is None:
            self.mllm.requires_grad_(False)
        if kind != torch.float32:
            set_precision(self.mllm, kind, self.mllm.precision_parts)

    def forward(self, inputs: dict, data_samples: list[RefVOSDataSample] | None = None,
                mode: str = 'predict') -> list[RefVOSDataSample] | dict[str, Tensor]:
        """Dispatch as MMEngine's models do: ``'predict'``, or ``'loss'`` with ``loss_ce``.

        Arguments as in ``mmengine.model.BaseModel``.

        Raises:
            ValueError: ``mode`` is another word, or ``'loss'`` without ``loss_ce``.
        """
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'loss' and self.loss_ce is not None:
            return self.loss(inputs, data_samples)
        raise ValueError('mode must be predict, or loss for a VideoQASelector with loss_ce, got '
                         f'{mode!r}')

    def loss(self, inputs: dict, data_samples: list[RefVOSDataSample]) -> dict[str, Tensor]:
        """Loss of a batch of B samples of talk.

        Args:
            inputs: lists of B: ``clip_imgs`` (T, 3, P, P), the frames of one video, and
                ``input_ids`` and ``labels`` (E, L), made with the template ``'video_qa'``.
            data_samples: (B), not used.

        Returns:
            ``loss_ce``, the weighted mean over the answers' tokens of all processes.
        """
        parts = [self.mllm.answer_logits(imgs, [torch.as_tensor(i) for i in ids],
                                         [torch.as_tensor(row) for row in labels])
                 for imgs, ids, labels in zip(*(inputs[key] for key in (
                     'clip_imgs', 'input_ids', 'labels')))]
        logits, targets = (torch.cat(part) for part in zip(*parts))
        return mean_over_processes(dict(loss_ce=self.loss_ce(logits, targets)),
                                   dict(loss_ce=len(targets)))

    def predict(self, inputs: dict,
                data_samples: list[RefVOSDataSample]) -> list[RefVOSDataSample]:
        """Choose key frames in whole videos.

        Args:
            inputs: ``reader``, a list of B frame readers.
            data_samples: (B), with the expressions.

        Returns:
            The data samples with ``key_frame_ids`` and ``key_frame_answers``, for each expression
            the answers in words.
        """
        for reader, sample in zip(inputs['reader'], data_samples):
            answers = self.ask(reader, sample)
            sample.key_frame_answers = answers
            sample.key_frame_ids = self._key_frames(answers, reader, sample)
        return data_samples

    def select(self, reader: FrameReader, data_sample: RefVOSDataSample) -> KeyFrames:
        """See :meth:`BaseKeyFrameSelector.select`.

        Raises:
            ValueError: an expression cannot be used, no answer names a moment with
                ``fallback='error'``, or the frame rate is not known with ``unit='time'``.
        """
        return KeyFrames(self._key_frames(self.ask(reader, data_sample), reader, data_sample))

    @torch.inference_mode()
    def ask(self, reader: FrameReader, data_sample: RefVOSDataSample) -> list[list[str]]:
        """The answers in words to the question on each expression."""
        cfg, frames = self.test_cfg, shown_frames(len(reader), self.test_cfg.num_frames)
        questions = [self._question(text, reader) for text in data_sample.expressions]
        generators = [_generator(cfg.seed, data_sample.video_id, exp_id)
                      for exp_id in data_sample.exp_ids]
        return self.mllm.answer_questions(
            self._images(reader, frames), questions, cfg, generators)

    def _question(self, expression: str, reader: FrameReader) -> str:
        # VISA cuts the question mark of expressions that are questions themselves.
        text = clean_expression(expression).strip().removesuffix('?')
        fields = dict(frames=str(min(len(reader), self.test_cfg.num_frames)))
        if self.test_cfg.unit == 'time':
            fields['seconds'] = f'{self._length(reader):.1f}'.removesuffix('.0')
        question = self.test_cfg.question or QUESTIONS[self.test_cfg.unit]
        for name, value in fields.items():
            question = question.replace(f'{{{name}}}', value)
        return question.replace('{x}', text)

    def _length(self, reader: FrameReader) -> float:
        """What the number of an answer is measured by."""
        if self.test_cfg.unit != 'time':
            return min(len(reader), self.test_cfg.num_frames)
        fps = self.test_cfg.fps or getattr(reader, 'fps', None)
        if fps is None:
            raise ValueError(f"model.test_cfg.unit='time' needs model.test_cfg.fps, as "
                             f'{reader.source} does not state a frame rate')
        return len(reader) / fps

    def _images(self, reader: FrameReader, frames: Sequence[int]) -> Tensor:
        """Frames (T, 3, P, P) for the MLLM."""
        images = np.stack([
            vision_tower_image(reader.read(t), self.mllm.image_size, self.mllm.vision_crop)
            for t in frames])
        return self.data_preprocessor.normalize_vision(
            torch.from_numpy(images).permute(0, 3, 1, 2))

    def _key_frames(self, answers: Sequence[Sequence[str]], reader: FrameReader,
                    sample: RefVOSDataSample) -> list[int]:
        cfg, frame_ids = self.test_cfg, []
        for exp_id, texts in zip(sample.exp_ids, answers):
            places = [parse_moment(text, cfg.unit, self._length(reader)) for text in texts]
            places = [place for place in places if place is not None]
            if places:
                frame_ids.append(frame_at(places, len(reader)))
                continue
            message = (f'expected a moment ({cfg.unit}) in an answer on video '
                       f'{sample.video_id!r}, expression {exp_id!r}, got {texts[0]!r}')
            if len(texts) > 1:
                message += f' and {len(texts) - 1} like it'
            if cfg.fallback == 'error':
                raise ValueError(message)
            frame_ids.append(0 if cfg.fallback == 'first' else len(reader) // 2)
            print_log(f'{message}; starts at the {cfg.fallback} frame', 'current',
                      logging.WARNING)
        return frame_ids


def _generator(seed: int, video_id: str, exp_id: str) -> torch.Generator:
    """A generator that depends on nothing but its arguments."""
    digest = hashlib.sha256(repr((seed, video_id, exp_id)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], 'big') >> 1)
