"""The rows of the study and what is compared with what."""

from dataclasses import dataclass

SHIPPED = 'shipped'
FOLDER = 'projects/ablation_study/configs'
KINDS = ('trained', 'tested', 'selector', 'shipped', 'not run')


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: also that of its results.
        title: what the table calls it.
        table: the table of the paper that it belongs to.
        kind: ``'trained'``: trained from the start and tested; ``'tested'``: another way to test
            the weights of ``base``; ``'selector'``: the same from key frames of the selector that
            is trained for that seed; ``'shipped'``: another way to test the weights that are
            shipped, once; ``'not run'``: needs a download or a package.
        config: file in ``FOLDER``, without ``.py``; ``name`` if empty.
        base: name of the row whose weights are tested.
        key_frames: for selectors, which ones: ``'trained'``, ``'untrained'`` or ``'best'``.
        note: why it is not run.
        optional: only run where it is asked for by name.
    """

    name: str
    title: str
    table: str
    kind: str = 'trained'
    config: str = ''
    base: str = ''
    key_frames: str = ''
    note: str = ''
    optional: bool = False

    @property
    def path(self) -> str:
        """The config, relative to the root of the repository."""
        return f'{FOLDER}/{self.config or self.name}.py'


def _selector(name: str, title: str, key_frames: str, table: str = '5',
              config: str = 'selector_start') -> Row:
    return Row(name, title, table, 'selector', config, 'glu_mb_oc', key_frames)


def _shipped(name: str, title: str, table: str, config: str = '', key_frames: str = '') -> Row:
    base = '' if name == SHIPPED else SHIPPED
    return Row(name, title, table, 'shipped', config, base, key_frames)


ROWS = (
    Row('global', 'global reasoning', '4'),
    Row('local', 'local reasoning', '4'),
    Row('random', 'random frames (VISA)', '1'),
    Row('token_update', 'token updated by the one before (TrackGPT)', '1', optional=True),
    Row('one_token', 'one token a video (VideoLISA)', '1', optional=True),
    Row('continuous', 'clip by clip (ViLLa)', '1', optional=True),
    Row('glu', 'GLU', '4'),
    Row('glu_mb', 'GLU + MB (stride 3)', '4'),
    Row('glu_mb_oc', 'GLU + MB + OC', '4'),
    *(Row(f'glu_mb_oc_weight-{weight}', f'GLU + MB + OC, weight {weight}', '4', optional=True)
      for weight in ('0.02', '0.05', '0.2', '0.5')),
    _selector('selector_trained', 'GLU + MB + OC + KFS', 'trained', '4'),
    _selector('selector_untrained', 'selector that is not trained', 'untrained'),
    _selector('selector_best', 'best frame (oracle)', 'best'),
    _selector('selector_sam2', 'SAM-2 from the key frame of KFS', 'trained', '6', 'selector_sam2'),
    Row('glu_mb_test-without', 'GLU + MB, tested without MB', 'C', 'tested', base='glu_mb'),
    Row('glu_mb_stride-1', 'GLU + MB, stride 1', 'C', 'tested', base='glu_mb'),
    Row('glu_mb_stride-5', 'GLU + MB, stride 5', 'C', 'tested', base='glu_mb'),
    Row('glu_mb_stride-7', 'GLU + MB, stride 7', 'C', 'tested', base='glu_mb'),
    Row('glu_mb_stride-9', 'GLU + MB, stride 9', 'C', 'tested', base='glu_mb'),
    _shipped('shipped', 'shipped model', '4', 'glu_mb'),
    _shipped('shipped_without-context', 'shipped, without context', '4'),
    _shipped('shipped_without-mb', 'shipped, without MB', 'C', 'glu_mb_test-without'),
    _shipped('shipped_stride-1', 'shipped, stride 1', 'C', 'glu_mb_stride-1'),
    _shipped('shipped_stride-5', 'shipped, stride 5', 'C', 'glu_mb_stride-5'),
    _shipped('shipped_stride-7', 'shipped, stride 7', 'C', 'glu_mb_stride-7'),
    _shipped('shipped_stride-9', 'shipped, stride 9', 'C', 'glu_mb_stride-9'),
    _shipped('shipped_best', 'shipped, best frame (oracle)', '5', 'shipped_start', 'best'),
    _shipped('shipped_sam2', 'shipped, SAM-2 from the best frame', '6', 'shipped_sam2', 'best'),
    Row('glu_mb_ratio-1-1', 'default : crowd 1:1', '7', optional=True),
    Row('glu_mb_ratio-2-1', 'default : crowd 2:1', '7', optional=True),
    Row('glu_mb_ratio-1-2', 'default : crowd 1:2', '7', optional=True),
    Row('glu_mb_ratio-4-15', 'default : crowd 4:15', '7', optional=True),
    *(Row(f'glu_mb_talk-{share}', f'GLU + MB, {share} % talk', '-', optional=True)
      for share in (10, 25, 50)),
    Row('chat-univi', 'Chat-UniVi, off the shelf', '5', 'not run',
        note='needs the weights of Chat-UniVi'),
    Row('llama-vid', 'LLaMA-VID, off the shelf', '5', 'not run',
        note='needs the weights of LLaMA-VID'),
    Row('cutie', 'Cutie from the key frame of KFS', '6', 'not run',
        note='needs the package cutie and its weights'),
)
ALL, DEFAULT, CROWD = 'all', 'default variant', 'many alike'
LATE, IN_SIGHT = 'late', 'late, in sight'
# Groups of expressions, the columns of the tables. Kinds, but for `all`, for all expressions about
# the default variant and for all about the crowd. 'Late' counts all frames; on those without the
# target only an empty mask is right. 'Late, in sight' counts those that show the target.
GROUPS = (ALL, DEFAULT, 'appearance', 'position', 'motion', 'event', 'look-alike', CROWD, LATE,
          IN_SIGHT, 'no-target')


@dataclass(frozen=True)
class Comparison:
    """A claim: the first row is better than the second one on a group of expressions."""

    better: str
    worse: str
    group: str


COMPARISONS = (
    Comparison('glu', 'global', ALL),
    Comparison('glu', 'global', 'look-alike'),
    Comparison('glu', 'global', 'motion'),
    Comparison('glu', 'local', ALL),
    Comparison('glu', 'local', 'event'),
    Comparison('glu', 'random', ALL),
    Comparison('glu_mb', 'glu', 'look-alike'),
    Comparison('glu_mb', 'glu', ALL),
    Comparison('glu_mb_oc', 'glu_mb', CROWD),
    Comparison('glu_mb_oc', 'glu_mb', ALL),
    Comparison('selector_trained', 'glu_mb_oc', LATE),
    Comparison('selector_trained', 'glu_mb_oc', IN_SIGHT),
    Comparison('selector_trained', 'glu_mb_oc', DEFAULT),
    Comparison('selector_trained', 'selector_untrained', LATE),
    Comparison('selector_trained', 'selector_untrained', IN_SIGHT),
    Comparison('selector_trained', 'selector_untrained', DEFAULT),
    Comparison('selector_best', 'glu_mb_oc', LATE),
    Comparison('selector_best', 'glu_mb_oc', IN_SIGHT),
    Comparison('selector_trained', 'selector_sam2', DEFAULT),
    Comparison('selector_trained', 'selector_sam2', IN_SIGHT),
    Comparison('glu_mb', 'glu_mb_test-without', ALL),
    Comparison('glu_mb_talk-10', 'glu_mb', ALL),
    Comparison('glu_mb_talk-25', 'glu_mb', ALL),
    Comparison('glu_mb_talk-50', 'glu_mb', ALL),
    Comparison('shipped', 'shipped_without-context', ALL),
    Comparison('shipped', 'shipped_without-context', 'event'),
    Comparison('shipped', 'shipped_without-mb', ALL),
    Comparison('shipped', 'shipped_without-mb', 'look-alike'),
    Comparison('shipped', 'shipped_stride-1', ALL),
    Comparison('shipped', 'shipped_stride-9', ALL),
    Comparison('shipped_best', 'shipped', ALL),
    Comparison('shipped_best', 'shipped', IN_SIGHT),
    Comparison('shipped_best', 'shipped_sam2', ALL),
)


def get_row(name: str) -> Row:
    """Look a row up.

    Raises:
        ValueError: there is none.
    """
    for row in ROWS:
        if row.name == name:
            return row
    raise ValueError(f'expected a row of the study, one of {[row.name for row in ROWS]}, '
                     f'got {name!r}')
