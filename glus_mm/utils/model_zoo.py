"""Models that can be named instead of given as files: what the metafiles list."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import yaml

from glus_mm.utils.resources import MODEL_INDEX, resource_root

_HUB = 'https://huggingface.co/'


@dataclass(frozen=True)
class ModelEntry:
    """A model of the zoo.

    Args:
        name: how it is called.
        config: its config file.
        weights: a file of the package, a repository ``org/name`` on the Hugging Face hub, or None
            where nobody has published any.
        aliases: other names.
        results: as in the metafile, by data set: metric and value in percent.
        source: who measured them.
    """

    name: str
    config: Path
    weights: str | None = None
    aliases: tuple[str, ...] = ()
    results: dict[str, dict[str, float]] = field(default_factory=dict)
    source: str = ''


def list_models() -> list[ModelEntry]:
    """All models of the metafiles that ``model-index.yml`` names, in their order.

    Raises:
        FileNotFoundError: the package was installed without its data.
    """
    root = resource_root()
    index = yaml.safe_load((root / MODEL_INDEX).read_text(encoding='utf-8'))
    entries = []
    for metafile in index['Import']:
        content = yaml.safe_load((root / metafile).read_text(encoding='utf-8'))
        entries += [_entry(root, model) for model in content['Models']]
    return entries


def find_model(name: str) -> ModelEntry:
    """Find a model by its name, an alias, or the name of a shipped config without its suffix.

    Args:
        name: such as ``'glus_tiny_moving-shapes'`` or ``'glus-s'``.

    Returns:
        The model; one that is found by its config alone has no weights.

    Raises:
        ValueError: there is no such name; the message has those there are.
    """
    entries = list_models()
    for entry in entries:
        if name == entry.name or name in entry.aliases:
            return entry
    configs = {path.stem: path for path in sorted((resource_root() / 'configs').rglob('*.py'))
               if '_base_' not in path.parts}
    if name in configs:
        return ModelEntry(name, configs[name])
    known = [entry.name for entry in entries]
    close = get_close_matches(name, dict.fromkeys([*known, *configs]), n=2)
    hint = f' (did you mean {" or ".join(map(repr, close))}?)' if close else ''
    raise ValueError(
        f'expected a config file or the name of a model, got {name!r}, which is neither{hint}; '
        f'models: {", ".join(known)} ("glus-mm info" lists them; a shipped config can be named, '
        'too)')


def _entry(root: Path, model: dict) -> ModelEntry:
    weights = model.get('Weights')
    if weights is not None:
        weights = (weights.removeprefix(_HUB) if weights.startswith(_HUB)
                   else str(root / weights))
    alias = model.get('Alias', ())
    return ModelEntry(
        model['Name'], root / model['Config'], weights,
        (alias, ) if isinstance(alias, str) else tuple(alias),
        {result['Dataset']: dict(result['Metrics']) for result in model.get('Results', ())},
        (model.get('Metadata') or {}).get('Results From', ''))
