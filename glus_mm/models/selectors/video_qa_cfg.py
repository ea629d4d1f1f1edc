"""The settings of an off-the-shelf key-frame selector, checked when it is built."""

from dataclasses import dataclass, fields

from glus_mm.models.mllms.base_video_qa import AnswerCfg
from glus_mm.models.selectors.moment_answer import UNITS
from glus_mm.utils.checked import checked

FALLBACKS = ('middle', 'first', 'error')


@dataclass(frozen=True)
class VideoQACfg:
    """``model.test_cfg`` of a :class:`VideoQASelector`.

    Attributes:
        num_frames: the most frames that the model is shown.
        unit: what is asked for, ``'percent'``, ``'frame'`` or ``'time'``.
        question: text with ``{x}`` for the expression, and possibly ``{frames}`` for how many
            frames are shown and ``{seconds}``; by default that of the unit.
        fps: frames per second, for ``'time'``; by default what the video file says.
        num_answers: answers to each question; the mean of those that name a moment counts.
        max_new_tokens: bound of an answer.
        temperature: 0 takes the most likely token each time, else tokens are drawn.
        seed: of the drawing; the answers to an expression depend on it, on the video's and the
            expression's id, and on nothing else.
        fallback: what to do where no answer names a moment: start at the ``'middle'`` (T // 2) or
            the ``'first'`` frame, which is logged, or raise an ``'error'``.
    """

    num_frames: int = 64
    unit: str = 'percent'
    question: str | None = None
    fps: float | None = None
    num_answers: int = 1
    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    fallback: str = 'middle'

    def __post_init__(self) -> None:
        """Check the values."""
        checked(1, 'model.test_cfg.', num_frames=self.num_frames)
        checked(UNITS, 'model.test_cfg.', unit=self.unit)
        checked(FALLBACKS, 'model.test_cfg.', fallback=self.fallback)
        if self.question is not None and '{x}' not in self.question:
            raise ValueError('model.test_cfg.question must have {x} in it, where the expression '
                             f'stands, got {self.question!r}')
        if self.fps is not None and not 0 < self.fps < float('inf'):
            raise ValueError(f'model.test_cfg.fps must be a positive number, got {self.fps!r}')
        try:
            self.answers()
        except ValueError as error:
            raise ValueError(f'model.test_cfg: {error}') from error

    def answers(self) -> AnswerCfg:
        """How answers are made."""
        return AnswerCfg(**{field.name: getattr(self, field.name) for field in fields(AnswerCfg)})
