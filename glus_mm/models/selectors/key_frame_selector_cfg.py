"""The settings of a key-frame selector's inference, checked when it is built."""

from dataclasses import dataclass


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
        for name, minimum in dict(num_reference=2, max_expressions=1).items():
            value = getattr(self, name)
            if type(value) is not int or value < minimum:
                raise ValueError(f'model.test_cfg.{name} must be an integer of at least {minimum}, '
                                 f'got {value!r}')
        if not isinstance(self.need_token, bool):
            raise ValueError('model.test_cfg.need_token must be True or False, '
                             f'got {self.need_token!r}')
