"""Does a converted state fill the model exactly? If not, say so in official names."""

from collections.abc import Mapping

from torch import Tensor

from glus_mm.conversion.official_weights import CLIP_PREFIX, SAM2, VISION_TOWER, to_official
from glus_mm.conversion.sam2_weights import fitting_configs
from glus_mm.utils.checkpoint import is_finite, list_keys
from glus_mm.utils.weight_files import DTYPES


def official_label(name: str) -> str:
    """Name of one of our weights for a message: the official one, where there is one."""
    if name.startswith(VISION_TOWER):
        short = name.removeprefix(VISION_TOWER).removeprefix(CLIP_PREFIX)
        return f'{CLIP_PREFIX}{short} (vision tower)'
    return to_official(name) or name


def check_converted(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str,
                    sam2: str | None) -> None:
    """Raise unless names, shapes and types fit and all values are finite.

    Args:
        expected: state of the model, possibly without values.
        state: what was converted, under our names.
        source: the checkpoint, for the message.
        sam2: the SAM-2 config, likewise; None for a model without.

    Raises:
        ValueError: with the keys, in official names, and the shapes.
    """
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    shapes = [name for name, value in expected.items()
              if name in state and state[name].shape != value.shape]
    if missing or unknown or shapes:
        described = 'config.json and the vision tower describe' if sam2 is None else (
            f'config.json, the vision tower and --sam2 {sam2} describe')
        raise ValueError('\n'.join([
            f'{source}: the weights do not fill the model that {described}',
            *_hints([*missing, *unknown, *shapes], state, sam2),
            *_listed('missing, with the expected shape', missing, expected),
            *_listed('unknown, with the shape found', unknown, state),
            *_listed('other shape', shapes, expected, state)]))
    for name, value in state.items():
        check_values(official_label(name), value, source)


def check_values(name: str, value: Tensor, source: str) -> None:
    """Raise ``ValueError`` unless a tensor is of a floating-point type we know, and finite.

    Args:
        name: its name, for the message.
        value: any shape.
        source: where it comes from, for the message.
    """
    if value.dtype not in DTYPES:
        raise ValueError(f'{source}: expected float32, float16 or bfloat16, got {value.dtype}: '
                         f'{name}')
    if not is_finite(value):
        raise ValueError(f'{source}: expected finite values, got NaN or infinity in {name}')


def _listed(title: str, names: list[str], first: Mapping[str, Tensor],
            second: Mapping[str, Tensor] | None = None) -> list[str]:
    """The keys of one kind with their shapes; nothing where there are none."""
    if not names:
        return []
    lines = [f'{official_label(name)}: ' + (
        f'{tuple(first[name].shape)}' if second is None else
        f'expected {tuple(first[name].shape)}, got {tuple(second[name].shape)}') for name in names]
    return [list_keys(title, lines)]


def _hints(names: list[str], state: Mapping[str, Tensor], sam2: str | None) -> list[str]:
    """What is most likely wrong, by the part of the model that the keys belong to."""
    hints = []
    if sam2 is not None and any(name.startswith(SAM2) for name in names):
        hints += _sam2_hint({name.removeprefix(SAM2): value for name, value in state.items()
                             if name.startswith(SAM2)}, sam2)
    if any(name.startswith(VISION_TOWER) for name in names):
        hints.append('Give a folder whose config.json and weights agree with --clip.')
    if any(name.startswith('mllm.projector.') and name.split('.')[2].isdigit() for name in names):
        hints.append('The projector has several layers, as in LLaVA 1.5; LLaVA v1, LISA and GLUS '
                     'have one linear layer.')
    return hints


def _sam2_hint(part: Mapping[str, Tensor], sam2: str) -> list[str]:
    """Which config the weights ``part`` of SAM-2 may belong to."""
    if not part:
        return ['There is no SAM-2 in the checkpoint.']
    fitting = fitting_configs(part)
    if sam2 in fitting:
        return []
    if fitting:
        return [f'The SAM-2 of the checkpoint has the sizes of --sam2 {" or ".join(fitting)}.']
    return ['None of the configs that the sam2 package ships has the sizes of the SAM-2 of the '
            'checkpoint: give its YAML file with --sam2.']
