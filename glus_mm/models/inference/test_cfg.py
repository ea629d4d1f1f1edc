"""The settings of inference, checked when the model is built."""

from dataclasses import dataclass

REUSE = ('exact', 'none')


@dataclass(frozen=True)
class GLUSTestCfg:
    """``model.test_cfg``; the defaults are the paper's (section B.3).

    Attributes:
        use_memory: False decodes every frame without the memory bank.
        memory_stride: distance of the older memories.
        num_context: context frames Tc, the centres of equal clips.
        window: query frames in the sliding window.
        window_stride: frames that the window advances at a time; only 1 is implemented.
        max_expressions: expressions that are batched; more are worked off in chunks.
        reuse: ``'exact'`` computes what expressions share once; ``'none'`` recomputes everything
            for each expression and frame, as the official code does.
        selector: config of a :class:`BaseKeyFrameSelector`; the first frame by default.
        propagator: config of a :class:`BasePropagator`; :class:`GLUSPropagator` by default.
    """

    use_memory: bool = True
    memory_stride: int = 3
    num_context: int = 4
    window: int = 4
    window_stride: int = 1
    max_expressions: int = 16
    reuse: str = 'exact'
    selector: dict | None = None
    propagator: dict | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        least = dict(memory_stride=1, num_context=0, window=1, max_expressions=1)
        for name, minimum in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < minimum:
                raise ValueError(f'model.test_cfg.{name} must be an integer of at least '
                                 f'{minimum}, got {value!r}')
        if not isinstance(self.use_memory, bool):
            raise ValueError(f'model.test_cfg.use_memory must be True or False, '
                             f'got {self.use_memory!r}')
        if self.window_stride != 1:
            raise ValueError('model.test_cfg.window_stride must be 1, the window of the paper, '
                             f'got {self.window_stride!r}')
        if self.reuse not in REUSE:
            raise ValueError(f'model.test_cfg.reuse must be one of {REUSE}, got {self.reuse!r}')
