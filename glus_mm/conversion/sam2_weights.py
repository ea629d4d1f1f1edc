"""Which SAM-2 fits a checkpoint, and the stock weights of SAM-2 in the layouts of two packages."""

from collections.abc import Mapping
from pathlib import Path

import torch
from omegaconf.errors import OmegaConfBaseException
from safetensors.torch import save_file
from torch import Tensor
from yaml import YAMLError

from glus_mm.conversion.config_file import check_output_folder, output_folder
from glus_mm.models.heads.sam2_arch import PUBLISHED, load_sam2_yaml
from glus_mm.models.heads.transformers_parts import (
    from_transformers,
    to_transformers,
    video_config,
)
from glus_mm.utils.hub import download, is_hub_name
from glus_mm.utils.weight_files import read_weight_file, read_weights

# Key of the weights in a stock file.
_STATE = 'model'
_TRUNK = 'image_encoder.trunk.'
# One that tells transformers' layout.
_THEIRS = 'vision_encoder.backbone.pos_embed'


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
    """Read the stock weights of SAM-2, in Meta's layout or in that of transformers.

    Args:
        sam2: name of a SAM-2 config or a YAML file.
        checkpoint: a file such as ``sam2_hiera_large.pt``, a folder or a repository on the hub
            such as ``facebook/sam2.1-hiera-tiny``, as transformers has them; None for the
            published file of the name ``sam2``, from the hub or its cache.

    Returns:
        The file or folder and its weights, under SAM-2's own names.

    Raises:
        ConnectionError: the hub cannot be reached.
        FileNotFoundError: there is no such file.
        ValueError: it is no SAM-2 file, or there is no published one for ``sam2``.
    """
    if checkpoint is None:
        if sam2 not in PUBLISHED:
            raise ValueError(f'expected --sam2-checkpoint, as there are published weights for the '
                             f'configs {", ".join(PUBLISHED)} only, not for {sam2!r}')
        repo, file = PUBLISHED[sam2]
        path = download(repo, [file], f'Where there is a network, run "hf download {repo} {file} '
                                      f'--local-dir DIR", and give --sam2-checkpoint DIR/{file}.'
                        ) / file
    elif is_hub_name(checkpoint):
        path = download(checkpoint, ['*.json', '*.safetensors'],
                        f'Where there is a network, run "hf download {checkpoint} --local-dir '
                        'DIR", and give DIR.')
    else:
        path = Path(checkpoint).expanduser()
    if path.is_dir():
        state = read_weights(path).tensors
    elif path.is_file():
        state = read_weight_file(path, None if path.suffix == '.safetensors' else _STATE)
    else:
        raise FileNotFoundError('expected a file or folder with the weights of SAM-2, got nothing '
                                f'there: {checkpoint}')
    return path, from_transformers(state) if _THEIRS in state else state


def convert_sam2(source: str, out_dir: str | Path, layout: str, sam2: str | None = None,
                 force: bool = False) -> None:
    """Write the weights of a SAM-2 in the layout of another package.

    Args:
        source: as ``checkpoint`` of :func:`read_sam2_weights`.
        out_dir: a new or empty folder. It gets ``sam2.pt``, which ``--sam2-checkpoint``,
            ``SAM2Propagator`` and the sam2 package read, or ``config.json`` and
            ``model.safetensors`` of a ``Sam2VideoModel``.
        layout: ``'sam2'`` or ``'transformers'``.
        sam2: what it is, a name or a YAML file; by default the published one of these sizes.
        force: replace the files of an earlier conversion.

    Raises:
        ConnectionError: the hub cannot be reached.
        FileNotFoundError: there is no such source.
        OSError: it cannot be written.
        ValueError: its sizes are those of no published SAM-2.
    """
    names = ['sam2.pt'] if layout == 'sam2' else ['config.json', 'model.safetensors']
    out_dir = Path(out_dir).expanduser()
    check_output_folder(out_dir, names, [Path(source)], force)
    path, state = read_sam2_weights(sam2 or '', source)
    fitting = fitting_configs(state) if sam2 is None else [sam2]
    if not fitting:
        raise ValueError(f'expected the weights of one of {", ".join(PUBLISHED)}, or its YAML '
                         f'file with --sam2, got other sizes: {path}')
    with output_folder(out_dir, names, names[-1]) as folder:
        if layout == 'sam2':
            torch.save({_STATE: {name: value.clone() for name, value in state.items()}},
                       folder / 'sam2.pt')
            return
        arch, size = load_sam2_yaml(fitting[0]), sam2_image_size(fitting[0])
        config = video_config(arch, size, True)
        config.architectures = ['Sam2VideoModel']
        config.to_json_file(folder / 'config.json')
        save_file({name: value.clone().contiguous() for name, value in to_transformers(
            state, arch, size).items()}, folder / 'model.safetensors', metadata=dict(format='pt'))


def fitting_configs(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the published models whose sizes a state has.

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
    fitting = []
    for name in PUBLISHED:
        arch = load_sam2_yaml(name)
        trunk = arch['image_encoder']['trunk']
        if found == (trunk['embed_dim'], sum(trunk['stages']),
                     arch.get('no_obj_embed_spatial', False)):
            fitting.append(name)
    return sorted(fitting)
