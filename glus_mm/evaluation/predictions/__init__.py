"""Predictions in files, in whatever form a system wrote them."""

from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from glus_mm.evaluation.predictions.npz_files import NPZFiles
from glus_mm.evaluation.predictions.prediction_tree import (
    ConvertedTree,
    FrameFolder,
    PredictionSource,
    PredictionTree,
    TreeScan,
    entries_of,
    names_of,
)
from glus_mm.evaluation.predictions.rle_file import RLEFile
from glus_mm.utils.checked import checked
from glus_mm.utils.masks import read_mask_png, write_label_png

__all__ = ['PREDICTION_FORMATS', 'ConvertedTree', 'FrameFolder', 'NPZFiles', 'PredictionSource',
           'PredictionTree', 'RLEFile', 'TreeScan', 'find_format', 'open_predictions',
           'read_mask_png', 'write_label_png']
PREDICTION_FORMATS = {
    'auto': 'one of the others, found out',
    'png': '<video>/<exp>/<frame>.png, grey',
    'png-any': 'the same in any mode, palette, one bit or colour',
    'png-objects': '<video>/<object>/<frame>.png in any mode',
    'png-labels': '<video>/<frame>.png, values are numbers of objects',
    'json': 'a file of run lengths: by video and expression, or a list of entries',
    'npz': '<video>/<exp>.npz, <video>_<exp>.npz or <video>.npz',
}
"""Forms of predictions, by the name that ``--pred-format`` takes."""
_UNITS = {'png-any': 'expressions', 'png-objects': 'objects', 'png-labels': 'labels'}
_MAX_DEPTH = 3


def open_predictions(pred_format: str, path: str | PathLike, folders: Sequence[FrameFolder],
                     extra: str = 'warn') -> PredictionSource:
    """Open predictions of expressions.

    Args:
        pred_format: one of ``PREDICTION_FORMATS``.
        path: the folder or file.
        folders: what should be there, one for each expression.
        extra: ``'warn'`` notes predictions nobody asked for, ``'error'`` refuses them.

    Raises:
        OSError: something is missing or cannot be read.
        ValueError: the format is unknown, or cannot be told.
    """
    checked(PREDICTION_FORMATS, pred_format=pred_format)
    path = Path(path)
    if pred_format == 'auto':
        pred_format, path = find_format(path, folders)
    if pred_format == 'png':
        source: PredictionSource = PredictionTree(path, folders, extra=extra)
    elif pred_format in _UNITS:
        source = ConvertedTree(path, folders, _UNITS[pred_format], extra)
    elif pred_format == 'json':
        source = RLEFile(path, folders, extra)
    else:
        source = NPZFiles(path, folders, extra)
    source.format = pred_format
    return source


def find_format(path: Path, folders: Sequence[FrameFolder]) -> tuple[str, Path]:
    """Find out in which form predictions are, by the names of folders and files.

    Folders around the videos, such as ``Annotations``, are gone into. Folders below the videos are
    those of objects only if they are exactly the objects in each video that is there, and not all
    of the expressions in each.

    Args:
        path: a folder or file.
        folders: what should be there, one for each expression.

    Returns:
        One of ``PREDICTION_FORMATS``, and the folder with the videos or the file.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: the form cannot be told; says what was found.
    """
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected a folder or file with predictions, got nothing '
                                'there')
    if path.is_file():
        if path.suffix == '.json':
            return 'json', path
        raise ValueError(_unclear(path, folders, f'got the file {path.name!r}'))
    videos = {folder.video.split('/')[0] for folder in folders}
    root = path
    for _ in range(_MAX_DEPTH):
        found = entries_of(root)
        if any(entry.name in videos and entry.is_dir() for entry in found):
            return _format_of_tree(root, path, folders), root
        files = Counter(Path(entry.name).suffix for entry in found if entry.is_file())
        stems = [entry.name[:-4] for entry in found if entry.name.endswith('.npz')]
        if any(stem in videos or stem.rpartition('_')[0] in videos for stem in stems):
            return 'npz', root
        inside = [entry for entry in found if entry.is_dir()]
        named = [entry for entry in inside if entry.name == 'Annotations'] or inside
        if files['.json'] == 1 and not inside:
            return 'json', next(Path(e.path) for e in found if e.name.endswith('.json'))
        if len(named) != 1:
            break
        root = Path(named[0].path)
    raise ValueError(_unclear(path, folders, f'got {_describe(root)}'))


def _format_of_tree(root: Path, path: Path, folders: Sequence[FrameFolder]) -> str:
    """Tell which kind of tree has the folders of videos."""
    by_video: dict[tuple[str, ...], list[FrameFolder]] = {}
    for folder in folders:
        by_video.setdefault(folder.parts[:-1], []).append(folder)
    kinds: set[str] = set()
    # Of the videos with folders: whether these are exactly the objects, hold all expressions, and
    # cannot be objects, as one has the name of an expression only.
    are_objects, are_all, are_expressions = [], [], []
    for video, expressions in by_video.items():
        home = root.joinpath(*video)
        found = entries_of(home) if home.is_dir() else []
        files = {entry.name for entry in found if not entry.is_dir()}
        names = {entry.name for entry in found if entry.is_dir()}
        exp_ids = {folder.parts[-1] for folder in expressions}
        objects = {obj for folder in expressions for obj in folder.objects}
        if files & {f'{frame}.png' for frame in expressions[0].frames}:
            kinds.add('png-labels')
        elif files & {f'{exp_id}.npz' for exp_id in exp_ids}:
            kinds.add('npz')
        elif names:
            kinds.add('folders')
            are_objects.append(names == objects)
            are_all.append(names >= exp_ids)
            are_expressions.append(bool(names & exp_ids - objects))
    if kinds == {'folders'}:
        if all(are_all) or any(are_expressions):
            return 'png-any'
        if all(are_objects):
            return 'png-objects'
        got = 'folders that may be those of expressions or of objects, some of which are missing'
    elif len(kinds) == 1:
        return kinds.pop()
    else:
        got = f'videos of several forms ({", ".join(sorted(kinds))})' if kinds else 'empty folders'
    raise ValueError(_unclear(path, folders, f'got {got}, in {root}'))


def _describe(folder: Path) -> str:
    """What lies in a folder, for an error."""
    found = entries_of(folder)
    inside = [entry.name for entry in found if entry.is_dir()]
    files = [entry.name for entry in found if not entry.is_dir()]
    parts = []
    if inside:
        parts.append(f'{len(inside)} folders ({names_of(inside)})')
    if files:
        parts.append(f'{len(files)} files ({names_of(files)})')
    return f'{" and ".join(parts) or "nothing"} in {folder}'


def _unclear(path: Path, folders: Sequence[FrameFolder], got: str) -> str:
    video, exp_id = folders[0].video, folders[0].parts[-1]
    return (f'{path}: expected predictions of videos such as {video!r} and expressions such as '
            f'{exp_id!r} in one of the forms {", ".join(list(PREDICTION_FORMATS)[1:])}, {got}; '
            'pred_format says which one')
