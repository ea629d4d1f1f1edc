"""Installation of glus_mm. The version has one home, ``glus_mm/version.py``."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Read the version without importing the package, whose dependencies may be missing yet."""
    names: dict = {}
    exec((ROOT / 'glus_mm' / 'version.py').read_text(encoding='utf-8'), names)
    return names['__version__']


REQUIRES = [
    # From 2.6 on, torch.load refuses to unpickle code unless told otherwise; MMEngine leaves the
    # choice to that default.
    'torch>=2.6',
    'torchvision>=0.21',
    'mmengine>=0.10.7',
    # 5.6 renamed the weights of CLIPVisionModel; a checkpoint has the names of later versions.
    'transformers>=5.6',
    'peft>=0.18',
    'accelerate>=1.0',
    'sam2>=1.1.0',
    'numpy>=1.26',
    'opencv-python>=4.10',
    'pycocotools>=2.0.8',
    'sentencepiece>=0.2.0',
    'pillow>=10.0',
    'scipy>=1.11',
    'imageio>=2.34',
    'imageio-ffmpeg>=0.5',
    # Named because they are imported here; sam2 and MMEngine bring them too.
    'hydra-core>=1.3',
    'omegaconf>=2.3',
    'matplotlib>=3.7',
    'tqdm>=4.65',
    'huggingface-hub>=1.0',
    'safetensors>=0.4',
    'pyyaml>=6.0',
    'filelock>=3.12',
    'platformdirs>=4.0',
]

# mmcv is no hard requirement: mmcv and mmcv-lite provide the same module, and only one may be
# there. ``import glus_mm`` says so when both are missing.
LITE = ['mmcv-lite>=2.2.0']
TENSORBOARD = ['tensorboard>=2.15']
# Pure Python in this use: nothing is compiled when it is installed or run.
DEEPSPEED = ['deepspeed>=0.19']

setup(
    name='glus_mm',
    version=read_version(),
    description='GLUS, referring video object segmentation, as an MMEngine plugin',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['glus_mm', 'glus_mm.*']),
    package_data={'glus_mm': ['models/mllms/assets/**']},
    install_requires=REQUIRES,
    extras_require={
        'lite': LITE,
        'deepspeed': DEEPSPEED,
        'quant': ['bitsandbytes>=0.48'],
        'demo': ['gradio'],
        'tensorboard': TENSORBOARD,
        'dev': ['pytest>=8.0', 'pytest-xdist>=3.5', 'ruff>=0.8', *TENSORBOARD, *DEEPSPEED],
    },
)
