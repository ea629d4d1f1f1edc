"""Where predicted masks come from."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np

EXTRA_POLICIES = ('warn', 'error')


@dataclass(frozen=True)
class FrameFolder:
    """Predictions of an expression or a sequence that should be there, one for each frame.

    Attributes:
        parts: their path below the root, part by part: the folders of the video, and that of the
            expression where there are expressions.
        frames: names of the frames that are needed, without suffix.
        where: what an error names, such as video and expression.
        allowed: names of frames that may be there too; those of ``frames`` need not be listed.
        objects: ids of the expression's objects, for systems that write masks of objects.
    """

    parts: tuple[str, ...]
    frames: tuple[str, ...]
    where: str
    allowed: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()

    @property
    def video(self) -> str:
        """Id of the video, of a folder for an expression."""
        return '/'.join(self.parts[:-1])


@dataclass
class TreeScan:
    """What was found.

    Attributes:
        missing: by position of the folder, the names of the frames that are not there.
        extra: paths below the root, or keys in a file, that nobody asked for.
    """

    missing: dict[int, list[str]] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)


class PredictionSource(ABC):
    """Predictions in one of the forms in which systems write them, read one mask at a time.

    Args:
        root: the folder or file.
        folders: what should be there; methods take positions in this list.
        extra: ``'warn'`` notes predictions nobody asked for, ``'error'`` refuses them.

    Attributes:
        format: one of ``PREDICTION_FORMATS``.

    Raises:
        ValueError: ``extra`` is unknown.
    """

    format: str = 'png'

    def __init__(self, root: str | PathLike, folders: Sequence[FrameFolder],
                 extra: str = 'warn') -> None:
        if extra not in EXTRA_POLICIES:
            raise ValueError(f'extra: expected one of {", ".join(EXTRA_POLICIES)}, got {extra!r}')
        self.root = Path(root)
        self.folders = list(folders)
        self.extra = extra

    @abstractmethod
    def scan(self) -> TreeScan:
        """Compare what is there with what should be, before any mask is read.

        Raises:
            OSError: the root is missing, or something cannot be read.
            ValueError: there is something that is no prediction.
        """

    @abstractmethod
    def place(self, position: int, frame: str) -> Path | str:
        """Where the mask of a frame is, or should be: a file, or a file and a key, for errors."""

    @abstractmethod
    def read(self, position: int, frame: str, size: tuple[int, int] | None) -> np.ndarray:
        """Read the mask of a frame that is not missing.

        Args:
            position: of the folder.
            frame: one of its frames.
            size: ``(H, W)`` that it must have; any if None.

        Returns:
            uint8 (H, W); any value but 0 is foreground.

        Raises:
            OSError: a file cannot be read.
            ValueError: the mask is not as it should be; names file, video, expression and frame.
        """

    def size(self, position: int, frame: str) -> tuple[int, int] | None:
        """Size ``(H, W)`` of a mask that is not missing; None where it states none.

        Raises:
            OSError: a file cannot be read.
            ValueError: the mask is not as it should be.
        """
        return self.read(position, frame, None).shape

    def _found(self, missing: dict[int, list[str]], extra: list[str]) -> TreeScan:
        """The result of :meth:`scan`; a ValueError where there is more than is wanted."""
        if extra and self.extra == 'error':
            raise ValueError(f'{self.root}: expected only predictions of the annotation\'s '
                             f'expressions, got {names_of(extra)}')
        return TreeScan(missing, extra)


def names_of(names: Iterable[str]) -> str:
    """The first names of many, for an error."""
    names = list(names)
    shown = ', '.join(repr(name) for name in names[:4])
    return shown + (f', ... {names[-1]!r}' if len(names) > 4 else '')
