"""Two systems on the same expressions, from their masks or from figures that were saved."""

import base64
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader

from glus_mm.apis.mask_evaluation.annotated_expressions import (
    AnnotatedExpressions,
    open_expressions,
)
from glus_mm.apis.mask_evaluation.evaluate_masks import evaluate_masks, expression_folders
from glus_mm.apis.mask_evaluation.expression_attributes import expression_attributes
from glus_mm.evaluation.comparison import Comparison, compare_figures, difference_of, p_text
from glus_mm.evaluation.predictions import open_predictions
from glus_mm.evaluation.protocols import PROTOCOLS, ExpressionProtocol
from glus_mm.evaluation.slices import Attributes, SlicedExpression, make_slices, slice_rows
from glus_mm.utils.image import read_image
from glus_mm.utils.json_file import read_json_object
from glus_mm.version import __version__
from glus_mm.visualization import RefVOSLocalVisualizer
from glus_mm.visualization.legend import Color
from glus_mm.visualization.sheets import shrink_frame

EXAMPLE_FRAMES = 4
THUMBNAIL_WIDTH = 240
# The truth is green; the systems are Okabe and Ito's blue and vermilion.
_COLORS: tuple[Color, ...] = ((0, 158, 115), (0, 114, 178), (213, 94, 0))
_JPEG_QUALITY = 80


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
        """The comparison as one HTML file, with examples: ``comparison_report.html`` filled in.

        Args:
            number: of examples of a kind; see :meth:`examples`.

        Returns:
            HTML in UTF-8, without scripts and links. Names and expressions are shown as text,
            whatever they hold.

        Raises:
            OSError: a file cannot be read.
            ValueError: a mask or an image is not as it should be.
        """
        found = self.comparison
        widest = 100 * max(abs(end) for row in found.rows for end in (
            row.difference.mean, row.difference.low, row.difference.high) if end is not None)
        limit = next((step for step in (1, 2, 4, 6, 10, 20, 30, 40, 50, 60, 80)
                      if widest <= step), 100) / 100
        videos: dict[str, list] = {}
        for item in found.expressions:
            videos.setdefault(item.video, []).append([*item.figures.values()])
        # Small dots lie over large ones. The first system is to the right, the second one upwards.
        points = [(video, *np.mean(rows, axis=0).tolist(), len(rows))
                  for video, rows in sorted(videos.items(), key=lambda pair: -len(pair[1]))]
        pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                            trim_blocks=True, lstrip_blocks=True)
        return pages.get_template('comparison_report.html').render(
            comparison=found, limit=limit, videos=points, examples=self.examples(number),
            notes=[f'The masks of {name} were not at hand.'
                   for name, folder in zip(found.names, self.masks) if folder is None],
            version=__version__, p_text=p_text, signed=_signed, place=_place, thumbnail=partial(
                _thumbnail, RefVOSLocalVisualizer(min_width=THUMBNAIL_WIDTH, alpha=0.5)))

    def examples(self, number: int = 4) -> list[tuple[str, list[dict[str, Any]]]]:
        """Expressions that the systems differ most on, and those that neither gets or both get.

        Args:
            number: of each; with enough of them no two of one heading are of one video.

        Returns:
            Headings with their examples: ``text``, ``where``, the video and the id for people,
            ``scores``, J&F of the two systems as fractions of 1, and ``frames``. A frame has
            ``name``, ``image``, uint8 (H, W, 3) in RGB, its ``scores``, and the ``masks`` of the
            truth and the two systems, each bool (H, W), or None where there is none.

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
        readers = [None if path is None else _mask_reader(self.annotation, path, self.pred_format)
                   for path in self.masks]
        return [(heading, [self._example(item, readers) for item in chosen])
                for heading, chosen in result]

    def _example(self, item: SlicedExpression,
                 readers: Sequence[Callable | None]) -> dict[str, Any]:
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
            masks = [reader and reader(video, expression, name, size) for reader in readers]
            frames.append(dict(name=name, image=image, masks=[truth, *masks],
                               scores=(scores[0][t], scores[1][t])))
        where = f'video {video["video_id"]}, expression {expression["exp_id"]}'
        return dict(text=expression['exp'], where=where, scores=tuple(item.figures.values()),
                    frames=frames)


def _mask_reader(annotation: AnnotatedExpressions, path: str | PathLike, pred_format: str
                 ) -> Callable[[dict, dict, str, tuple[int, int]], np.ndarray]:
    """Reads single masks of a system; one that is missing is empty, as it was counted."""
    positions = {(video['video_id'], expression['exp_id']): place
                 for place, (video, expression) in enumerate(annotation.items)}
    source = open_predictions(pred_format, path, expression_folders(annotation.items))
    missing = source.scan().missing

    def read(video: dict, expression: dict, frame: str, size: tuple[int, int]) -> np.ndarray:
        position = positions[video['video_id'], expression['exp_id']]
        if frame in missing.get(position, ()):
            return np.zeros(size, dtype=bool)
        return source.read(position, frame, size) > 0

    return read


def expression_keys(annotation: AnnotatedExpressions) -> dict[str, tuple[dict, dict]]:
    """Video and expression by the keys that figures have in a JSON document.

    Returns:
        By ``<video>_<exp>`` where that is unique, and by ``<dataset>/<video>/<exp>``.
    """
    names = [f'{video["video_id"]}_{exp["exp_id"]}' for video, exp in annotation.items]
    count = Counter(names)
    keys = {name: item for name, item in zip(names, annotation.items) if count[name] == 1}
    return keys | {f'{annotation.dataset}/{item[0]["video_id"]}/{item[1]["exp_id"]}': item
                   for item in annotation.items}


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
            values = row.get('J&F') if isinstance(row, Mapping) else None
            values = values if part == 'per_frame' else [values]
            if not isinstance(values, list) or not all(
                    isinstance(value, (int, float)) and not isinstance(value, bool)
                    and 0 <= value <= 1 for value in values) or not all(
                    isinstance(row.get(name, True), bool) for name in ('has_target', 'predicted')):
                raise ValueError(f"{path}, key {part!r}: expected 'J&F' of {key!r}, from 0 to 1, "
                                 f'and whether it has a target, got {row!r:.80}')
    return document


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
    are_figures = []
    for system in systems:
        are_figures.append(os.path.isfile(system))
        if are_figures[-1] and pred_format != 'png':
            # It may hold masks; a file of figures has the protocol as its first key.
            with open(system, 'rb') as file:
                are_figures[-1] = b'"protocol"' in file.read(64)
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


def _signed(share: float, digits: int = 1) -> str:
    """A difference in percent with its sign, and a minus that is as wide as a plus."""
    text = f'{100 * share:+.{digits}f}'.replace('-', '\N{MINUS SIGN}')
    return text[1:] if not text.strip('+\N{MINUS SIGN}0.') else text


def _place(value: float, limit: float) -> str:
    """Where a difference is on an axis of 320 units."""
    return f'{160 + 145 * max(-1.0, min(1.0, value / limit)):.1f}'


def _thumbnail(visualizer: RefVOSLocalVisualizer, frame: dict[str, Any], place: int
               ) -> dict[str, str | int]:
    """The frame with the truth (0), or with a system's mask and the truth's outline, as an img."""
    height, width = frame['image'].shape[:2]
    size = (THUMBNAIL_WIDTH, max(1, round(height * THUMBNAIL_WIDTH / width)))
    image, masks = frame['image'], np.stack([frame['masks'][place], frame['masks'][0]])
    if width > size[0]:
        image, masks = shrink_frame(image, masks, size)
    elif width < size[0]:
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        masks = np.array([cv2.resize(mask.astype(np.float32), size) for mask in masks]) >= 0.5
    drawn = visualizer.draw_frame(image, masks[:1], [''],
                                  colors=[_COLORS[place]], legend=False)
    if place:
        lines, _ = cv2.findContours(masks[1].astype(np.uint8), cv2.RETR_CCOMP,
                                    cv2.CHAIN_APPROX_NONE)
        drawn = np.ascontiguousarray(drawn)
        cv2.drawContours(drawn, lines, -1, (255, 255, 255), 1, cv2.LINE_AA)
    _, data = cv2.imencode('.jpg', cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR),
                           [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    source = base64.b64encode(data.tobytes()).decode('ascii')
    return dict(width=size[0], height=size[1], src=f'data:image/jpeg;base64,{source}')
