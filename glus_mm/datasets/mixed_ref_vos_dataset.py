"""Several data sets for referring video object segmentation as one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.dataset import ConcatDataset

from glus_mm.datasets.base_ref_vos_dataset import BaseRefVOSDataset
from glus_mm.registry import DATASETS, build_child


@DATASETS.register_module()
class MixedRefVOSDataset(ConcatDataset):
    """The videos of all data sets, one after the other, each with its own pipeline and seed.

    An item is addressed by ``index`` or by ``(index, draw)``, as in ``BaseRefVOSDataset``. It is
    the item of the data set that the video comes from: the same video gives the same sample for
    the same draw, whatever else is in the mix. How often each data set comes up is for the
    sampler to say: see ``MixedVideoSampler``.

    The names in ``metainfo['dataset']`` may differ; that of the mix joins them with ``+``. The
    data samples keep the name of their own data set.

    Args:
        datasets: data sets or their configs.
        pipeline: of the configs that have none of their own.
        lazy_init: read the annotations on first use.

    Raises:
        TypeError: one is not a data set of this kind.
        ValueError: there is none, or their other metainfo differs.
        Exception: whatever building or reading one of them raises; the message says which.
    """

    def __init__(self, datasets: Sequence[dict | BaseRefVOSDataset],
                 pipeline: Sequence[dict] | None = None, lazy_init: bool = False) -> None:
        if not isinstance(datasets, (list, tuple)) or not datasets:
            raise ValueError(f'MixedRefVOSDataset: expected a list of at least one data set, got '
                             f'{datasets!r}')
        if pipeline is not None:
            datasets = [dict(dict(pipeline=pipeline), **dataset) if isinstance(dataset, dict)
                        else dataset for dataset in datasets]
        children = [_build(i, dataset) for i, dataset in enumerate(datasets)]
        super().__init__(children, lazy_init=lazy_init, ignore_keys=['dataset'])

    @property
    def metainfo(self) -> dict:
        """What the data sets have in common, and their names."""
        names = dict.fromkeys(str(child.metainfo.get('dataset')) for child in self.datasets)
        return dict(super().metainfo, dataset='+'.join(names))

    def full_init(self) -> None:
        """Read the annotations, if that has not been done.

        Raises:
            Exception: whatever reading one of them raises; the message says which.
        """
        if not self._fully_initialized:
            for i, child in enumerate(self.datasets):
                with _naming(f'datasets[{i}] ({type(child).__name__})'):
                    child.full_init()
            super().full_init()

    def __getitem__(self, idx: int | tuple[int, int]) -> Any:
        """Get an item of one of the data sets.

        Args:
            idx: the position of a video, or a pair of it and the number of the draw.

        Raises:
            IndexError: there is no such video.
            Exception: whatever the data set raises.
        """
        index, draw = idx if isinstance(idx, tuple) else (idx, 0)
        if not -len(self) <= index < len(self):
            raise IndexError(f'MixedRefVOSDataset: expected an index below {len(self)}, got '
                             f'{index}')
        child, place = self._get_ori_dataset_idx(int(index))
        return self.datasets[child][place, draw]


def _build(number: int, dataset: dict | BaseRefVOSDataset) -> BaseRefVOSDataset:
    kind = dataset.get('type') if isinstance(dataset, dict) else type(dataset).__name__
    with _naming(f'datasets[{number}] ({kind})'):
        # Lazy, so that a wrong argument is found before the first annotation is read.
        built = build_child(DATASETS, dataset, lazy_init=True)
        if not isinstance(built, BaseRefVOSDataset):
            raise TypeError(f'expected a BaseRefVOSDataset or its config, got '
                            f'{type(built).__name__}')
    return built


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Put a data set's place in the mix before the message of an error."""
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError) as error:
        # Some subclasses cannot be made from a message alone.
        kind = next(kind for kind in (FileNotFoundError, OSError, KeyError, TypeError, ValueError)
                    if isinstance(error, kind))
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise kind(f'{place}: {text}') from error
