"""From a question on when something shows, and its answer in words, to a frame."""

import re
from collections.abc import Sequence

UNITS = ('percent', 'frame', 'time')

QUESTIONS = dict(
    # Of VISA, whose off-the-shelf selectors are those of the paper's table 5; line break as there.
    percent="If I want to find '{x}', which percentage mark of the video should I check?\n"
            'Please choose one answer from 0%, 10%, 20%, 30%, 40%, 50%, 60%, 70%, 80%, 90%, and '
            '100%.',
    frame="The video has {frames} frames, numbered from 1 to {frames}. If I want to find '{x}', "
          'which frame of the video should I check? Please answer with one frame number.',
    time="The video is {seconds} seconds long. If I want to find '{x}', which second of the video "
         'should I check? Please answer with one time in seconds.')
"""What is asked, by the unit of the answer."""

_NUMBER = r'\d{1,9}(?:\.\d{1,9})?'
# Each finds one moment. Units are whole words; a number is never a part of a longer one.
_PATTERNS = dict(
    percent=rf'(?P<last>\blast\s+)?(?<![\d.-])(?P<n>{_NUMBER})\s*(?:%|percent\b|per\s+cent\b)',
    frame=r'\bframes?\s*(?:number|no\.?|index|#)?\s*#?\s*(?P<n>\d{1,9})(?![\d.]*\d)|'
          r'(?<![\d.-])(?P<nth>\d{1,9})(?:st|nd|rd|th)\s+frame\b',
    time=rf'(?<![\d.:-])(?P<min>\d{{1,9}}):(?P<sec>[0-5]\d(?:\.\d+)?)(?![\d:])|'
         rf'(?<![\d.:-])(?P<n>{_NUMBER})\s*(?:s|secs?|seconds?)\b|'
         rf'\bsecond\s+(?P<nth>{_NUMBER})(?![\d.]*\d)')
_BARE = rf'\s*(?P<n>{_NUMBER})\s*[.!]?\s*'


def parse_moment(answer: str, unit: str, length: float) -> float | None:
    """Read the one moment that an answer names.

    An answer counts if it names a moment in ``unit``, any number of times but always the same, and
    has no other number; or if it is a number and nothing else. The number has to be within the
    video. Everything else, a range or a list among it, is no answer: guessing would hide it.

    - ``percent``: '40%', '40 percent'; 'last 40%' is the mark 60% (VISA's rule).
    - ``frame``: 'frame 12', 'frame number 12', 'frame #12', 'the 12th frame'.
    - ``time``: '3.5 s', '3 seconds', 'second 3', '1:05' (minutes and seconds).

    Args:
        answer: what was said.
        unit: ``'percent'``, ``'frame'`` or ``'time'``, as was asked for.
        length: frames that were shown, for ``'frame'``; seconds of the video, for ``'time'``.

    Returns:
        The place in the video, 0 for its start (the first frame) and 1 for its end (the last one);
        None for no answer.
    """
    text = answer.lower()
    bare = re.fullmatch(_BARE, text)
    moments = [bare] if bare else list(re.finditer(_PATTERNS[unit], text))
    rest = re.sub(_PATTERNS[unit], ' ', text)
    if not moments or (not bare and re.search(r'\d', rest)):
        return None
    places = {_place(match.groupdict(), unit, length) for match in moments}
    return places.pop() if len(places) == 1 else None


def _place(found: dict[str, str | None], unit: str, length: float) -> float | None:
    """Place in 0..1 of one moment, None outside the video."""
    if found.get('min') is not None:
        number = 60 * int(found['min']) + float(found['sec'])
    else:
        number = float(found.get('n') or found.get('nth'))
    if unit == 'percent':
        place = 1 - number / 100 if found.get('last') else number / 100
    elif unit == 'frame':
        if number != int(number) or not 1 <= number <= length:
            return None
        place = (number - 1) / max(length - 1, 1)
    else:
        place = number / length
    return place if 0 <= place <= 1 else None


def shown_frames(num_frames: int, limit: int) -> list[int]:
    """Positions of the frames that a model is shown: all, or ``limit`` evenly spread ones.

    The first and the last frame are among them (Chat-UniVi's rule); with ``limit`` 1 the first.
    """
    if num_frames <= limit:
        return list(range(num_frames))
    return [t * (num_frames - 1) // max(limit - 1, 1) for t in range(limit)]


def frame_at(places: Sequence[float], num_frames: int) -> int:
    """The frame nearest to the mean of places in 0..1; the later one of two that are as near."""
    return int(sum(places) / len(places) * (num_frames - 1) + 0.5)
