"""What the videos of a MovingShapes split are like: the default, and variants with one emphasis."""
from collections.abc import Mapping
from dataclasses import dataclass, field

from glus_mm.utils.checked import checked

THEMES = ('slow', 'moving', 'crossing')
# How many objects share each shape, per number of objects: alike nouns in every video.
_PATTERNS = {
    4: ((2, 2), (2, 1, 1), (3, 1)),
    5: ((2, 2, 1), (3, 2), (3, 1, 1)),
    6: ((2, 2, 2), (3, 2, 1), (3, 3)),
}


@dataclass(frozen=True)
class Variant:
    """The chances by which scenes and expressions are drawn; the default values are the default.

    Attributes:
        code: part of the seed of each video, unique among the variants; 0 adds nothing.
        themes: chance of each of ``THEMES``.
        flash: theme -> chance that an object flashes.
        counts: theme -> chance of 4, 5 and 6 objects.
        patterns: number of objects -> how many share
            each shape; at most 5, as there are 5 motions.
        palette: how many colours a video draws from, 1 to 6.
        diameters: range of all diameters as parts of the short side;
            None is that of the theme, with some that are clearly smaller or larger.
        late: how many objects enter in the last third of the video, if so many have a look
            of their own.
        quotas: kind -> how many expressions of it a video may keep.
    """

    code: int = 0
    themes: tuple[float, ...] = (0.40, 0.33, 0.27)
    flash: Mapping[str, float] = field(
        default_factory=lambda: {'slow': 0.70, 'moving': 0.60, 'crossing': 0.40})
    counts: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {
        'slow': (0.3, 0.45, 0.25), 'moving': (0.5, 0.4, 0.1), 'crossing': (0.5, 0.4, 0.1)})
    patterns: Mapping[int, tuple[tuple[int, ...], ...]] = field(
        default_factory=lambda: dict(_PATTERNS))
    palette: int = 4
    diameters: tuple[float, float] | None = None
    late: int = 0
    quotas: Mapping[str, int] = field(default_factory=lambda: {
        'appearance': 3, 'position': 3, 'motion': 3, 'event': 2, 'look-alike': 3, 'group': 1,
        'no-target': 1, 'late': 0})


_NONE = dict.fromkeys(THEMES, 0.0)
VARIANTS = {
    'default': Variant(),
    # An object among alike ones flashes in 3 or 4 of the 12 frames; on the others only the context
    # tells which one it was.
    'elsewhere': Variant(
        code=1, themes=(0.6, 0.4, 0.0), flash=dict.fromkeys(THEMES, 1.0),
        patterns={4: ((3, 1), (2, 2)), 5: ((3, 2), (4, 1)), 6: ((3, 3), (4, 2))},
        quotas={'event': 4, 'appearance': 1, 'position': 1, 'no-target': 1}),
    # Two objects of one look meet and pass, or turn back, in every video.
    'crossing': Variant(
        code=2, themes=(0.0, 0.0, 1.0), flash=_NONE,
        quotas={'look-alike': 5, 'appearance': 1, 'position': 1, 'no-target': 1}),
    # Most objects have one shape, in two colours at most, and each moves in another way.
    'crowd': Variant(
        code=3, themes=(0.0, 1.0, 0.0), flash=_NONE,
        counts=dict.fromkeys(THEMES, (0.0, 0.6, 0.4)),
        patterns={5: ((5,), (4, 1)), 6: ((5, 1), (4, 2))}, palette=2, diameters=(0.20, 0.26),
        quotas={'motion': 5, 'position': 3, 'appearance': 2}),
    # Two objects, told by their looks, enter in the last third; the first frames do not show them.
    'late': Variant(
        code=4, themes=(0.6, 0.4, 0.0), flash=_NONE, patterns={
            4: ((2, 1, 1), (1, 1, 1, 1)), 5: ((2, 2, 1), (2, 1, 1, 1)), 6: ((2, 2, 1, 1),)},
        late=2, quotas={'late': 5, 'appearance': 2, 'position': 1, 'no-target': 1}),
}


def get_variant(name: str) -> Variant:
    """Look a variant up.

    Args:
        name: a key of ``VARIANTS``.

    Raises:
        ValueError: there is none of this name.
    """
    checked(sorted(VARIANTS), variant=name)
    return VARIANTS[name]
