"""Two systems on the same expressions, from their masks or from figures that were saved."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from glus_mm.apis.mask_evaluation.annotated_expressions import (
    AnnotatedExpressions,
    open_expressions,
)
from glus_mm.apis.mask_evaluation.comparison_report import (
    ReportExample,
    ReportFrame,
    comparison_report,
)
from glus_mm.apis.mask_evaluation.evaluate_masks import evaluate_masks
from glus_mm.apis.mask_evaluation.expression_attributes import expression_attributes
from glus_mm.apis.mask_evaluation.scorers import expression_folders
from glus_mm.evaluation.comparison import Comparison, compare_figures, difference_of
from glus_mm.evaluation.predictions import open_predictions
from glus_mm.evaluation.protocols import PROTOCOLS, ExpressionProtocol
from glus_mm.evaluation.slices import Attributes, SlicedExpression, make_slices, slice_rows
from glus_mm.utils.image import read_image
from glus_mm.utils.json_file import read_json_object

EXAMPLE_FRAMES = 4


class MaskComparison:
    """Two systems compared on a data set.

    Args:
        annotation: the expressions.
        documents: the JSON document of each system.
        names: of the systems.
        masks: the masks of each, for examples; None = not at hand.
        pred_format: their form, see :func:`evaluate_masks`.
        progress: show a progress bar.

    Raises:
        OSError: a file of the annotation cannot be read.
        ValueError: the documents are not about the same expressions of this annotation.
    """

    def __init__(self, annotation: AnnotatedExpressions, documents: tuple[dict, dict],
                 names: tuple[str, str], masks: tuple[PathLike | None, PathLike | None],
                 pred_format: str = 'png', progress: bool = False) -> None:
        self.annotation = annotation
        self.masks = masks
        self.pred_format = pred_format
        self._keys = expression_keys(annotation)
        first, second = (document['per_expression'] for document in documents)
        self.comparison: Comparison = compare_figures(
            documents[0]['protocol'], names, (first, second),
            keyed_attributes(annotation, progress))
        self._frames = tuple(document['per_frame'] for document in documents)

    def report(self, number: int = 4) -> str:
        """The comparison as one HTML file, with examples.

        Args:
            number: of examples of a kind; see :meth:`examples`.

        Raises:
            OSError: a file cannot be read.
            ValueError: a mask or an image is not as it should be.
        """
        notes = [f'The masks of {name} were not at hand.'
                 for name, folder in zip(self.comparison.names, self.masks) if folder is None]
        return comparison_report(self.comparison, self.examples(number), notes)

    def examples(self, number: int = 4) -> list[tuple[str, list[ReportExample]]]:
        """Expressions that the systems differ most on, and those that neither gets or both get.

        Args:
            number: of each; with enough of them no two of one heading are of one video.

        Returns:
            Headings with their examples, frames included.

        Raises:
            OSError: a file cannot be read.
            ValueError: a mask or an image is not as it should be.
        """
        first, second = self.comparison.names

        def total(item: SlicedExpression) -> float:
            return sum(item.figures.values())

        kinds: list[tuple[str, Callable[[SlicedExpression], float], bool]] = [
            (f'Best for {second}: where it is furthest ahead', lambda i: -difference_of(i), True),
            (f'Best for {first}: where it is furthest ahead', difference_of, True),
            ('Worst for both', total, False), ('Best for both', lambda i: -total(i), False)]
        shown: set[str] = set()
        result = []
        for heading, order, must_differ in kinds:
            # The key decides between equals, so that the page does not change by itself.
            items = sorted(self.comparison.expressions, key=lambda i: (order(i), i.key))
            if must_differ:
                items = [item for item in items if order(item) < 0]
            chosen = _of_different_videos([i for i in items if i.key not in shown], number)
            shown.update(item.key for item in chosen)
            result.append((heading, chosen))
        readers = [None if path is None else _MaskReader(self.annotation, path, self.pred_format)
                   for path in self.masks]
        return [(heading, [self._example(item, readers) for item in chosen])
                for heading, chosen in result]

    def _example(self, item: SlicedExpression,
                 readers: Sequence['_MaskReader | None']) -> ReportExample:
        video, expression = self._keys[item.key]
        size = self.annotation.size(video)
        scores = [of_system[item.key]['J&F'] for of_system in self._frames]
        gap = np.abs(np.subtract(*scores))
        # Where they differ most in each part of the video; in its middle where they do not.
        parts = np.array_split(np.arange(len(gap)), min(EXAMPLE_FRAMES, len(gap)))
        frames = []
        for part in parts:
            t = int(max(part, key=lambda t: (gap[t], -abs(t - part.mean()))))
            name, path = video['frame_names'][t], video['img_paths'][t]
            image = read_image(path, upright=False) if os.path.isfile(path) else np.full(
                (*size, 3), 64, np.uint8)
            truth = self.annotation.target(video, expression, t, size) > 0
            masks = [reader and reader.read(video, expression, name, size) for reader in readers]
            frames.append(ReportFrame(name, image, [truth, *masks],
                                      (scores[0][t], scores[1][t])))
        return ReportExample(expression['exp'], f'video {video["video_id"]}, expression '
                             f'{expression["exp_id"]}', tuple(item.figures.values()), frames)


class _MaskReader:
    """Reads single predicted masks of a system; one that is missing is empty, as it was counted."""

    def __init__(self, annotation: AnnotatedExpressions, path: str | PathLike,
                 pred_format: str) -> None:
        items = [(video, expression) for video in annotation.videos
                 for expression in video['expressions']]
        self.positions = {(video['video_id'], expression['exp_id']): place
                          for place, (video, expression) in enumerate(items)}
        self.source = open_predictions(pred_format, path, expression_folders(items))
        self.missing = self.source.scan().missing

    def read(self, video: dict, expression: dict, frame: str,
             size: tuple[int, int]) -> np.ndarray:
        position = self.positions[video['video_id'], expression['exp_id']]
        if frame in self.missing.get(position, ()):
            return np.zeros(size, dtype=bool)
        return self.source.read(position, frame, size) > 0


def expression_keys(annotation: AnnotatedExpressions) -> dict[str, tuple[dict, dict]]:
    """Video and expression by the keys that figures have in a JSON document.

    Returns:
        By ``<video>_<exp>`` where that is unique, and by ``<dataset>/<video>/<exp>``.
    """
    pairs = [(video, expression) for video in annotation.videos
             for expression in video['expressions']]
    names = [f'{video["video_id"]}_{expression["exp_id"]}' for video, expression in pairs]
    count = Counter(names)
    keys = {name: pair for name, pair in zip(names, pairs) if count[name] == 1}
    for video, expression in pairs:
        keys[f'{annotation.dataset}/{video["video_id"]}/{expression["exp_id"]}'] = \
            (video, expression)
    return keys


def slice_figures(protocol: str, ann_root: str | PathLike, document: Mapping,
                  progress: bool = False) -> dict:
    """Figures of one system by slice.

    Args:
        protocol: one that scores expressions.
        ann_root: folder with the annotation.
        document: the JSON document of the system.
        progress: show a progress bar.

    Returns:
        'rows', see :func:`slice_rows`, and 'attributes' of each expression.

    Raises:
        OSError: a file of the annotation cannot be read.
        ValueError: no expression has a target.
    """
    attributes = keyed_attributes(open_expressions(protocol, ann_root), progress)
    figures = document['per_expression']
    expressions = [
        SlicedExpression(key, attributes[key][0], {
            name: value for name, value in row.items() if isinstance(value, float)},
            attributes[key][1])
        for key, row in sorted(figures.items()) if row['has_target']]
    if not expressions:
        raise ValueError('expected at least one expression with a target for slices, got '
                         f'{len(figures)} without any')
    return {'rows': slice_rows(make_slices(expressions)),
            'attributes': {item.key: dict(item.attributes) for item in expressions}}


def keyed_attributes(annotation: AnnotatedExpressions,
                     progress: bool = False) -> dict[str, tuple[str, Attributes]]:
    """Video and attributes of all expressions by their keys; see :func:`expression_keys`."""
    table = expression_attributes(annotation, progress)
    return {key: (video['video_id'], table[video['video_id'], expression['exp_id']])
            for key, (video, expression) in expression_keys(annotation).items()}


def holds_figures(path: str | PathLike) -> bool:
    """Tell the JSON file with figures, whose first key is the protocol, from one with masks."""
    if not os.path.isfile(path):
        return False
    with open(path, 'rb') as file:
        return b'"protocol"' in file.read(64)


def read_figures(path: str | PathLike, protocol: str) -> dict:
    """Read figures that ``eval_masks.py --out`` or ``test.py --dump`` wrote.

    Args:
        path: the JSON file.
        protocol: name of the protocol that they should be of.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such document, or one of another protocol.
    """
    document = read_json_object(path)
    if document.get('protocol') != protocol:
        raise ValueError(f'{path}: expected figures of the protocol {protocol!r}, got '
                         f'{document.get("protocol")!r}')
    for part in ('per_expression', 'per_frame'):
        rows = document.get(part)
        if not isinstance(rows, Mapping) or not rows:
            raise ValueError(f'{path}: expected figures under {part!r}, got {type(rows).__name__}')
        for key, row in rows.items():
            if not isinstance(row, Mapping) or not _has_figures(row, part == 'per_frame'):
                raise ValueError(f"{path}, key {part!r}: expected 'J&F' of {key!r}, from 0 to 1, "
                                 f'and whether it has a target, got {row!r:.80}')
    return document


def _has_figures(row: Mapping, is_list: bool) -> bool:
    """Whether an entry of figures has what is read of it."""
    values = row.get('J&F')
    if is_list != isinstance(values, list):
        return False
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
               for value in (values if is_list else [values])) and all(
        isinstance(row.get(key, True), bool) for key in ('has_target', 'predicted'))


def check_comparable(protocol: str) -> None:
    """Raise ``ValueError`` unless a protocol scores expressions, which slices are made of."""
    if protocol not in PROTOCOLS or not issubclass(PROTOCOLS[protocol], ExpressionProtocol):
        fit = [name for name, kind in PROTOCOLS.items() if issubclass(kind, ExpressionProtocol)]
        raise ValueError(f'slices are made of expressions: expected one of the protocols '
                         f'{", ".join(fit)}, got {protocol!r}')


def compare_masks(protocol: str,
                  ann_root: str | PathLike,
                  systems: tuple[str | PathLike, str | PathLike],
                  names: tuple[str, str] | None = None,
                  masks: tuple[str | PathLike, str | PathLike] | None = None,
                  workers: int = 1,
                  missing: str = 'error',
                  extra: str = 'warn',
                  pred_values: int | None = None,
                  pred_format: str = 'png',
                  progress: bool = False) -> MaskComparison:
    """Compare two systems.

    Args:
        protocol: one that scores expressions.
        ann_root: folder with the annotation; images below it are read where they are there.
        systems: of each its masks, which are evaluated, or the JSON file with its figures.
        names: of the systems; those of the folders or files by default.
        masks: the masks of both, for examples, where ``systems`` are figures.
        workers, missing, extra, pred_values, pred_format, progress: see :func:`evaluate_masks`.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is not as it should be, or the two cannot be compared.
        RuntimeError: a process died.
    """
    check_comparable(protocol)
    for system in systems:
        if not os.path.exists(system):
            raise FileNotFoundError(f'{system}: expected a folder with masks or a JSON file with '
                                    'figures, got nothing there')
    if names is None:
        stems = [Path(os.path.abspath(system)).name.removesuffix('.json') for system in systems]
        names = (stems[0], stems[1]) if stems[0] != stems[1] else (str(systems[0]),
                                                                  str(systems[1]))
    if names[0] == names[1]:
        raise ValueError(f'names: expected two different names, got {names[0]!r} twice')
    annotation = open_expressions(protocol, ann_root)
    are_figures = [holds_figures(system) or (pred_format == 'png' and os.path.isfile(system))
                   for system in systems]
    documents = tuple(
        read_figures(system, protocol) if is_figures else evaluate_masks(
            protocol, ann_root, system, workers=workers, missing=missing, extra=extra,
            pred_values=pred_values, pred_format=pred_format, progress=progress).document()
        for system, is_figures in zip(systems, are_figures))
    paths = tuple(system if not is_figures else masks and masks[place]
                  for place, (system, is_figures) in enumerate(zip(systems, are_figures)))
    return MaskComparison(annotation, documents, names, paths, pred_format, progress)


def _of_different_videos(items: Sequence[SlicedExpression],
                         number: int) -> list[SlicedExpression]:
    """The first items, one of each video; more of a video only where there are too few."""
    firsts, others, seen = [], [], set()
    for item in items:
        (others if item.video in seen else firsts).append(item)
        seen.add(item.video)
        if len(firsts) == number:
            break
    return [*firsts, *others][:number]
