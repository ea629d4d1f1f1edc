"""What this environment has: versions, devices, and what is missing for which part."""

import platform
from importlib import metadata
from importlib.util import find_spec

import torch

from glus_mm.utils.dependencies import PROVIDERS

# What the package imports everywhere, and what only some of its parts need: the distributions
# with the extra of pip that brings them and what they are for.
REQUIRED = ('torch', 'torchvision', 'transformers', 'peft', 'numpy', 'opencv-python',
            'pycocotools', 'av')
OPTIONAL = {
    'sam2': ('sam2', "SAM-2 from its own package instead of transformers', and SAM2Propagator"),
    'timm': ('edgetam', 'EdgeTAM as the mask head'),
    'deepspeed': ('deepspeed', 'training with ZeRO'),
    'bitsandbytes': ('quant', '4-bit and 8-bit weights'),
    'gradio': ('demo', 'the web demo'),
    'tensorboard': ('tensorboard', 'curves in TensorBoard'),
}
_ALTERNATIVES = {'opencv-python': ('opencv-python-headless', )}


def describe_versions() -> dict[str, str | None]:
    """Versions of Python and of what the package stands on; None for what is missing."""
    versions = {'python': platform.python_version(),
                **{name: _version(name) for name in REQUIRED}}
    for module, names in PROVIDERS.items():
        found = [f'{version} ({name})' for name in names if (version := _noted(name))]
        versions[module] = ', '.join(found) or None
    return versions


def describe_devices() -> list[str]:
    """The devices that models can run on, one line each; the CPU is always there."""
    lines = [f'cpu: {torch.get_num_threads()} threads']
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        lines.append(f'cuda:{i}: {properties.name}, {properties.total_memory / 1e9:.0f} GB')
    if torch.backends.mps.is_available():
        lines.append('mps')
    return lines


def list_missing() -> list[str]:
    """What is not installed and what it would be for, one line each; required parts first."""
    bring = dict.fromkeys(PROVIDERS, '"glus_mm[lite]"')
    lines = [f'{name}: required; pip install {bring.get(name, name)}'
             for name, version in describe_versions().items() if version is None]
    for name, (extra, purpose) in OPTIONAL.items():
        if _version(name) is None:
            lines.append(f'{name}: for {purpose}; pip install "glus_mm[{extra}]"')
    if not torch.cuda.is_available():
        lines.append('CUDA: models run on the CPU; those of 7 B parameters need an accelerator')
    return lines


def _version(name: str) -> str | None:
    for candidate in (name, *_ALTERNATIVES.get(name, ())):
        version = _noted(candidate)
        if version is not None:
            return version
    # Some builds come without the notes of pip.
    return 'installed' if find_spec(name.replace('-', '_')) is not None else None


def _noted(name: str) -> str | None:
    """The version of a distribution that pip installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
