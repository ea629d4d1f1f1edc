"""``glus-mm info``: what is here, what is missing, and which models can be named."""

import argparse
import json
from pathlib import Path

from glus_mm.cli.user_error import FAILED, user_errors
from glus_mm.version import __version__


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = ('The first lines belong into every report of a problem. "configs" is where '
                     'configs that come with the package lie; inherit them by that path.')
    parser.add_argument('--json', action='store_true', help='print JSON instead of text')


def run(args: argparse.Namespace) -> None:
    """Print what is known.

    Raises:
        UserError: the package was installed without its configs.
    """
    with user_errors(FAILED):
        report = _collect()
    if args.json:
        print(json.dumps(report, indent=2))
        return
    print(f'glus_mm {report["glus_mm"]} in {report["package"]}')
    print(f'configs: {report["configs"]}')
    print('\nversions')
    for name, version in report['versions'].items():
        print(f'  {name:15} {version or "missing"}')
    print('\ndevices')
    print(*(f'  {line}' for line in report['devices']), sep='\n')
    print('\nmodels (glus-mm segment --model NAME)')
    named = [model for model in report['models'] if model['weights'] is not None]
    for model in named:
        weights = f'weights on the Hugging Face hub: {model["weights"]}'
        if Path(model['weights']).is_absolute():
            weights = ('weights come with the package' if Path(model['weights']).is_file() else
                       'weights missing')
        print(f'  {model["name"]:32} {weights}')
        for dataset, metrics in model['results'].items():
            figures = ', '.join(f'{key} {value:g}' for key, value in metrics.items())
            print(f'    {dataset}: {figures}')
        if model['results']:
            print(f'    ({model["source"]})')
    print(f'  and {len(report["models"]) - len(named)} configs without published weights (--json)')
    print('\nmissing')
    print(*(f'  {line}' for line in report['missing'] or ['nothing']), sep='\n')


def _collect() -> dict:
    import glus_mm
    from glus_mm.utils.environment import describe_devices, describe_versions, list_missing
    from glus_mm.utils.model_zoo import list_models
    from glus_mm.utils.resources import resource_root

    models = [dict(name=entry.name, config=str(entry.config), weights=entry.weights,
                   results=entry.results, source=entry.source) for entry in list_models()]
    return dict(
        glus_mm=__version__, package=str(Path(glus_mm.__file__).parent),
        configs=str(resource_root() / 'configs'), versions=describe_versions(),
        devices=describe_devices(), models=models, missing=list_missing())
