"""The settings of a training step, checked when the model is built."""

from dataclasses import dataclass

from glus_mm.utils.checked import checked

NORMALIZE = ('global', 'local')
ATTENTION = ('full', 'window')


@dataclass(frozen=True)
class GLUSTrainCfg:
    """``model.train_cfg``.

    Attributes:
        memory_stride: distance of the older memories; 1 as in section B.2 of the paper.
        use_memory: False decodes every frame without the memory bank.
        normalize: what the losses are means over with several processes. ``'global'``: over the
            masks and tokens of all processes, so that neither the number of processes nor who
            has which video matters, and every process reports the same losses. ``'local'``: over
            those of the own process; as gradients are averaged, an expression then counts more
            in a process that has fewer of them. The official code does the latter.
        one_token_seg_all: the conversation has one turn, about the first query frame, and its one
            seg token prompts SAM-2 on all query frames (VideoLISA in Table 1 of the paper), instead
            of a turn and a seg token for each (GLUS). The pipeline's :class:`BuildConversation` has
            to say the same; tested with :class:`OneTokenPropagator`.
        attention: what a turn sees of the turns before it. ``'full'``: all of them, as published.
            ``'window'``: those of its window, ``model.test_cfg.window`` turns with itself; for
            clips with more query frames than that. A model that is trained so computes the same
            in a stream, with ``model.test_cfg.window_cache='turns'``.
        click_prob: share of the masks that are prompted with simulated clicks beside the seg
            token, where the seg token alone is wrong, so that the decoder learns both. Which they
            are is drawn for each expression and frame. 0 as published.
        mistaken_prob: share of the masks that are prompted with the seg token of another
            expression of the video and, if they have a target, with clicks: a person clicks where
            the answer is wrong, which a model that knows its training videos hardly shows. Drawn
            where clicks are, ``click_prob`` above 0.
        max_clicks: the most clicks on such a mask; it gets 1 to so many.
        click_seed: seed of the clicks. A resumed run goes on with the same ones.
    """

    memory_stride: int = 1
    use_memory: bool = True
    normalize: str = 'global'
    one_token_seg_all: bool = False
    attention: str = 'full'
    click_prob: float = 0.0
    mistaken_prob: float = 0.0
    max_clicks: int = 3
    click_seed: int = 0

    def __post_init__(self) -> None:
        where = 'model.train_cfg.'
        checked(0, where, click_seed=self.click_seed)
        checked(1, where, memory_stride=self.memory_stride, max_clicks=self.max_clicks)
        checked(bool, where, use_memory=self.use_memory,
                one_token_seg_all=self.one_token_seg_all)
        checked(NORMALIZE, where, normalize=self.normalize)
        checked(ATTENTION, where, attention=self.attention)
        checked(float, where, click_prob=self.click_prob, mistaken_prob=self.mistaken_prob)
        if self.mistaken_prob and not self.click_prob:
            raise ValueError('model.train_cfg.mistaken_prob needs simulated clicks: expected '
                             'model.train_cfg.click_prob above 0 with it, got 0')
        if self.attention == 'window' and self.one_token_seg_all:
            raise ValueError("model.train_cfg.attention='window' is one of turns: expected "
                             'model.train_cfg.one_token_seg_all=False, got True')
