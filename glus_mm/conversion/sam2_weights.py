"""Which SAM-2 fits a checkpoint, and the stock weights of SAM-2."""

import inspect
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor
from yaml import YAMLError

from glus_mm.conversion.weight_files import read_weight_file
from glus_mm.models.heads.sam2_arch import load_sam2_yaml
from glus_mm.utils.hub import download

# Key of the weights in a stock file.
_STATE = 'model'
_TRUNK = 'image_encoder.trunk.'


def is_yaml(sam2: str) -> bool:
    """Whether ``--sam2`` is a file and not the name of a config of the sam2 package."""
    return sam2.endswith(('.yaml', '.yml'))


def sam2_image_size(sam2: str) -> int:
    """Side of the images that a SAM-2 config is for.

    Args:
        sam2: name of a SAM-2 config or a YAML file.

    Returns:
        Its ``model.image_size``.

    Raises:
        FileNotFoundError: there is no such name or file.
        ValueError: it is no SAM-2 config.
    """
    try:
        size = load_sam2_yaml(sam2).get('image_size')
    except (AttributeError, OmegaConfBaseException, TypeError, YAMLError) as error:
        raise ValueError(f'{sam2}: expected a SAM-2 config, got a file that fails with: '
                         f'{error}') from error
    if type(size) is not int:
        raise ValueError(f'{sam2}: expected model.image_size, an integer, got {size!r}')
    return size


def read_sam2_weights(sam2: str, checkpoint: str | None) -> tuple[Path, dict[str, Tensor]]:
    """Read the stock weights of SAM-2.

    Args:
        sam2: name of a SAM-2 config or a YAML file.
        checkpoint: a file such as ``sam2_hiera_large.pt``; None for the published one of the name
            ``sam2``, from the hub or its cache.

    Returns:
        The file and its weights, under SAM-2's own names.

    Raises:
        ConnectionError: the hub cannot be reached.
        FileNotFoundError: there is no such file.
        ValueError: it is no SAM-2 file, or there is no published one for ``sam2``.
    """
    if checkpoint is not None:
        path = Path(checkpoint).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f'expected a file with the weights of SAM-2, got nothing '
                                    f'there: {checkpoint}')
    else:
        path = _download(sam2)
    return path, read_weight_file(path, None if path.suffix == '.safetensors' else _STATE)


def _download(sam2: str) -> Path:
    published = {Path(config).stem: (repo, file)
                 for repo, (config, file) in HF_MODEL_ID_TO_FILENAMES.items()}
    if sam2 not in published:
        raise ValueError(f'expected --sam2-checkpoint, as there are published weights for the '
                         f'configs {", ".join(published)} only, not for {sam2!r}')
    repo, file = published[sam2]
    folder = download(repo, [file], f'Where there is a network, run "hf download {repo} {file} '
                                    f'--local-dir DIR", and give --sam2-checkpoint DIR/{file}.')
    return folder / file


def fitting_configs(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the sam2 package's configs whose sizes a state has.

    Args:
        state: weights under SAM-2's own names.

    Returns:
        The names; empty where none fits.
    """
    patches = state.get(f'{_TRUNK}patch_embed.proj.weight')
    if patches is None:
        return []
    blocks = {name.split('.')[3] for name in state if name.startswith(f'{_TRUNK}blocks.')}
    found = (patches.shape[0], len(blocks), 'no_obj_embed_spatial' in state)
    default_stages = inspect.signature(Hiera).parameters['stages'].default
    fitting = []
    for family in ('sam2', 'sam2.1'):
        for file in (Path(str(files('sam2'))) / 'configs' / family).glob('*.yaml'):
            arch = load_sam2_yaml(str(file))
            trunk = arch['image_encoder']['trunk']
            if found == (trunk['embed_dim'], sum(trunk.get('stages', default_stages)),
                         arch.get('no_obj_embed_spatial', False)):
                fitting.append(file.stem)
    return sorted(fitting)
