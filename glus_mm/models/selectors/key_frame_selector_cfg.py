"""The settings of a key-frame selector's inference, checked when it is built."""

from dataclasses import dataclass

from glus_mm.utils.checked import checked


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
        """Check the values."""
        checked(2, 'model.test_cfg.', num_reference=self.num_reference)
        checked(1, 'model.test_cfg.', max_expressions=self.max_expressions)
        checked(bool, 'model.test_cfg.', need_token=self.need_token)
