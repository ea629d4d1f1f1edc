"""Does a model follow directions of motion: the same pictures of MovingShapes, shown backward.

Backward, an object that moves left moves right. A model that uses motion turns to another object
then: "the circle moving left" is now the circle that moved right. Cases are expressions about a
direction whose noun ("the circle", "the red shape") also names an object that moves the opposite
way. In a case the model *turns* if its masks overlap that object (or those objects) more when the
video is shown backward; the overlap is the mean IoU over the frames that show the object. A model
that goes by looks or by chance turns in half of the cases at most.

``tools/test.py --out D --probe reverse`` writes both kinds of masks, D and D_reverse; those of a
picture have the same name in both. Directions are read from ``objects.json`` of the split.

Example::

    python tools/test.py CONFIG CHECKPOINT --out outputs/masks --probe reverse
    python dev/moving_shapes_reversal.py data/moving_shapes/valid_u \\
        --pred outputs/masks --reversed-pred outputs/masks_reverse
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from moving_shapes_shortcuts import Video, decode_tracks, load_videos, read_track

from glus_mm.utils.paths import ensure_writable_file

OPPOSITE = {'left': 'right', 'right': 'left', 'up': 'down', 'down': 'up'}
_DIRECTED = re.compile(r'the (.+?) (?:moving|that moves) (left|right|up|down)')
DRAWS = 10_000


@dataclass(frozen=True)
class Case:
    """An expression whose noun names an object that moves the opposite way.

    Attributes:
        video_id: of the video.
        exp_id: of the expression.
        text: the expression.
        forward: mean IoU of the masks with the opposite object, the video as it is.
        backward: the same, the video backward.
    """

    video_id: str
    exp_id: str
    text: str
    forward: float
    backward: float


def find_opposite(text: str, objects: Sequence[dict]) -> list[int]:
    """Objects that the noun of an expression names and that move the opposite way.

    Args:
        text: the expression; one without a direction has none.
        objects: of the video, as ``objects.json`` has them.

    Returns:
        Their positions in ``objects``.
    """
    found = _DIRECTED.fullmatch(text)
    if found is None:
        return []
    *colour, shape = found[1].split()
    return [i for i, item in enumerate(objects)
            if shape in ('shape', item['shape']) and (not colour or item['colour'] == colour[0])
            and item['motion'] == OPPOSITE[found[2]]]


def mean_iou(pred: np.ndarray, true: np.ndarray) -> float:
    """Mean IoU of masks bool (T, H, W) over the frames where the true one is not empty."""
    seen = true.any((1, 2))
    pred, true = pred[seen], true[seen]
    return float(((pred & true).sum((1, 2)) / (pred | true).sum((1, 2))).mean())


def cases_of(video: Video, objects: Sequence[dict], pred: str, reversed_pred: str) -> list[Case]:
    """The cases of a video.

    Args:
        video: its annotation.
        objects: its objects, as ``objects.json`` has them.
        pred: folder of the masks on the video as it is.
        reversed_pred: folder of those on the video backward.

    Returns:
        One for each expression about a direction with an object that moves the opposite way.

    Raises:
        FileNotFoundError: a mask is missing.
        ValueError: one is no mask of this video.
    """
    tracks = list(decode_tracks(video).values())
    cases = []
    for item in video.expressions:
        opposite = find_opposite(item['exp'], objects)
        if opposite:
            true = np.any([tracks[i] for i in opposite], axis=0)
            overlap = [mean_iou(read_track(folder, video, item['exp_id']), true)
                       for folder in (pred, reversed_pred)]
            cases.append(Case(video.video_id, item['exp_id'], item['exp'], *overlap))
    return cases


def share_of_turns(cases: Sequence[Case], draws: int = DRAWS, seed: int = 0) -> dict[str, float]:
    """Share of the cases in which the model turns, with its 95 % bootstrap interval over videos.

    Args:
        cases: all of them.
        draws: of the bootstrap; a video is drawn with all its cases.
        seed: of the draws.

    Returns:
        'cases', 'videos', 'turns', 'low' and 'high' (shares in percent), and the mean overlaps
        'forward' and 'backward' in percent.

    Raises:
        ValueError: there is no case.
    """
    if not cases:
        raise ValueError('expected expressions about a direction whose noun also names an object '
                         'that moves the opposite way, got none')
    videos = sorted({case.video_id for case in cases})
    place = {name: i for i, name in enumerate(videos)}
    turns, number = np.zeros(len(videos)), np.zeros(len(videos))
    for case in cases:
        turns[place[case.video_id]] += case.backward > case.forward
        number[place[case.video_id]] += 1
    drawn = np.random.default_rng(seed).integers(len(videos), size=(draws, len(videos)))
    shares = turns[drawn].sum(1) / number[drawn].sum(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return {'cases': len(cases), 'videos': len(videos),
            **{name: 100 * float(value) for name, value in (
                ('turns', turns.sum() / number.sum()), ('low', low), ('high', high),
                ('forward', np.mean([case.forward for case in cases])),
                ('backward', np.mean([case.backward for case in cases])))}}


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Measure whether a model follows directions')
    parser.add_argument('root', metavar='ROOT', help='folder of the split, such as D/valid_u')
    parser.add_argument('--pred', metavar='DIR', required=True, help='masks on the videos')
    parser.add_argument('--reversed-pred', metavar='DIR', required=True,
                        help='masks on the videos backward')
    parser.add_argument('--out', metavar='F.json', help='write figures and cases into this file')
    return parser, parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print the figures."""
    parser, args = parse_args(argv)
    try:
        out = None if args.out is None else ensure_writable_file(args.out)
        path = Path(args.root) / 'objects.json'
        if not path.is_file():
            raise FileNotFoundError(f'expected {path}, which tools/dataset_converters/'
                                    'moving_shapes.py writes, got no such file')
        objects = json.loads(path.read_text(encoding='utf-8'))
        cases = [case for video in load_videos(args.root) for case in
                 cases_of(video, objects[video.video_id], args.pred, args.reversed_pred)]
        figures = share_of_turns(cases)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print('| cases | videos | turns in % | 95 % interval | overlap, video | overlap, backward |\n'
          '|---:|---:|---:|---:|---:|---:|\n'
          '| {cases} | {videos} | {turns:.1f} | {low:.1f} to {high:.1f} | {forward:.1f} | '
          '{backward:.1f} |'.format(**figures))
    if out is not None:
        content = dict(figures, per_case=[asdict(case) for case in cases])
        out.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
