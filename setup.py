"""What of the installation is computed; the rest is in pyproject.toml.

The version has one home, ``glus_mm/version.py``.
"""

from pathlib import Path
from shutil import copy2

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Read the version without importing the package, whose dependencies may be missing yet."""
    names: dict = {}
    exec((ROOT / 'glus_mm' / 'version.py').read_text(encoding='utf-8'), names)
    return names['__version__']


# What a wheel carries beside the code, in glus_mm/.mim as OpenMIM expects it;
# glus_mm/utils/resources.py finds it there, or here in the repository.
RESOURCES = ('model-index.yml', 'configs/**/*.py', 'configs/**/*.yml', 'configs/**/*.md',
             'checkpoints/glus_tiny_moving-shapes.pth', 'checkpoints/README.md')


class BuildWithResources(build_py):
    """Copies configs, metafiles and the tiny checkpoint into the package that is built."""

    def run(self) -> None:
        """Build; an editable installation finds the files in the repository."""
        super().run()
        if self.editable_mode:
            return
        for pattern in RESOURCES:
            for file in sorted(ROOT.glob(pattern)):
                target = Path(self.build_lib, 'glus_mm', '.mim', file.relative_to(ROOT))
                target.parent.mkdir(parents=True, exist_ok=True)
                copy2(file, target)


REQUIRES = [
    # From 2.6 on, torch.load refuses to unpickle code unless told otherwise.
    'torch>=2.6',
    'torchvision>=0.21',
    # 5.6 renamed the weights of CLIPVisionModel; a checkpoint has the names of later versions.
    'transformers>=5.6',
    'peft>=0.18',
    'accelerate>=1.0',
    'numpy>=1.26',
    'opencv-python>=4.10',
    'pycocotools>=2.0.8',
    'sentencepiece>=0.2.0',
    'pillow>=10.0',
    'scipy>=1.11',
    # All video, read and written; it brings FFmpeg. 16 reports the rotation of a frame and why a
    # stream has no decoder.
    'av>=16.0',
    # Named because they are imported here; the engine brings some of them too.
    'omegaconf>=2.3',
    'matplotlib>=3.7',
    'tqdm>=4.65',
    'huggingface-hub>=1.0',
    'safetensors>=0.4',
    'pyyaml>=6.0',
    # Names of a package that are imported where they are first used.
    'lazy-loader>=0.4',
    # Locks of folders; 3.30 has leases, which a process that was killed does not hold for ever.
    'filelock>=3.30',
    # The order of frames in a folder.
    'natsort>=8.4',
    'platformdirs>=4.0',
    # The page that compares two systems; torch brings it.
    'jinja2>=3.1',
]

# One pair of engine and mmcv has to be there. Neither is a hard requirement: stock and fork bring
# modules of the same name, and pip would install the one over the other (mmcv-lite asks for the
# stock engine, onedl-mmcv for the fork). ``import glus_mm`` says so when none or both are there.
LITE = ['mmengine>=0.10.7', 'mmcv-lite>=2.2.0']
ONEDL = ['onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6']
# transformers has SAM-2 too. The package is published as source only, and its build wants torch.
SAM2 = ['sam2>=1.1.0', 'hydra-core>=1.3']
# The image encoder of EdgeTAM.
EDGETAM = ['timm>=1.0']
TENSORBOARD = ['tensorboard>=2.15']
# Pure Python in this use: nothing is compiled when it is installed or run.
DEEPSPEED = ['deepspeed>=0.19']
QUANT = ['bitsandbytes>=0.48']
# The web demo and the browser that tests it; the browser itself is the system's chromium.
# The oldest Gradio that was tried.
DEMO = ['gradio>=6.31']
BROWSER = ['playwright>=1.49']
DOCS = ['sphinx>=8.0', 'myst-parser>=4.0', 'myst-nb>=1.3', 'furo>=2024.8.6']
# Runs demo/glus_mm.ipynb.
NOTEBOOK = ['nbclient>=0.10', 'ipykernel>=6.29']

setup(
    version=read_version(),
    packages=find_packages(include=['glus_mm', 'glus_mm.*']),
    package_data={'glus_mm': ['py.typed', '**/*.pyi', '**/*.html', 'text/assets/**']},
    cmdclass={'build_py': BuildWithResources},
    install_requires=REQUIRES,
    extras_require={
        'lite': LITE,
        'onedl': ONEDL,
        'sam2': SAM2,
        'edgetam': EDGETAM,
        'deepspeed': DEEPSPEED,
        'quant': QUANT,
        'demo': DEMO,
        'wandb': ['wandb>=0.18'],
        'tensorboard': TENSORBOARD,
        'docs': DOCS,
        'dev': ['pytest>=8.0', 'pytest-xdist>=3.8', 'pytest-cov>=7.0', 'ruff>=0.8',
                'pre-commit>=3.5',
                # Pinned: another version finds other things.
                'mypy==2.4.1', 'supervision>=0.25', *DOCS, *NOTEBOOK, *SAM2, *EDGETAM,
                *TENSORBOARD, *DEEPSPEED, *QUANT, *DEMO, *BROWSER],
    },
)
