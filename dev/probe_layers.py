"""Where a GLUS knows what: linear probes of every stage, on videos they were not fitted to.

For objects of the test set, linear maps read from each stage (vision tower, projector, each layer
of the LLM, seg token):

- place: the centroid; mean error in % of the sides, the smaller the better;
- colour, shape, and whether the object is lit now or was lit on a context frame;
- direction: still, left, right, up or down over the context, from one frame and from two.

All but places are balanced accuracies in %. The table ends with chance levels; --out
writes every number, --plot a figure. Place and direction are read off masks, for any data set;
colour, shape and flashes need the ``objects.json`` that MovingShapes writes. Half of the videos
each are read by probes that were fitted to the other half.

Example::

    python dev/probe_layers.py configs/glus/glus_tiny_moving-shapes.py \\
        checkpoints/glus_tiny_moving-shapes.pth --out outputs/probes.json --plot outputs/probes.png
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from layer_probes.features import (
    PLACE,
    PROBES,
    PROJECTOR,
    SEG,
    TOWER,
    FeatureReader,
    ProbeResult,
    object_tracks,
    probe_classes,
    probe_places,
    read_records,
    video_of,
)
from matplotlib.figure import Figure
from mmengine import Config
from mmengine.registry import DefaultScope

from glus_mm.apis import init_model
from glus_mm.models import GLUS, LlavaMLLM
from glus_mm.registry import DATASETS, SCOPE
from glus_mm.utils.command_line import read_config
from glus_mm.utils.config_input import ConfigOptions
from glus_mm.utils.paths import ensure_writable_file

Results = dict[tuple[str, str], ProbeResult]


def collect(model: GLUS, cfg: Config, num_videos: int | None = None) -> FeatureReader:
    """Run the model on the test set of a config.

    Raises:
        ValueError: the data set has no masks, or the MLLM's visual tokens have no places.
    """
    if not isinstance(model.mllm, LlavaMLLM):
        raise ValueError('expected an MLLM whose visual tokens have places in the frame, a '
                         f'LlavaMLLM, got {type(model.mllm).__name__}')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or SCOPE):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    features, records = FeatureReader(model), {}
    for i in range(min(len(dataset), num_videos or len(dataset))):
        child, place = video_of(dataset, i)
        if id(child) not in records:
            records[id(child)] = read_records(child)
        info, reader = child.get_data_info(place), dataset[i]['inputs']['reader']
        tracks = object_tracks(child, place, reader,
                               records[id(child)].get(info['video_id'], ()))
        features.add_video(i, reader, info['expressions'], tracks)
    return features


def run_probes(features: FeatureReader) -> Results:
    """Fit and read all probes for which there are samples enough."""
    results = {}
    for (stage, probe), samples in features.samples.items():
        if not samples.labels:
            continue
        vectors = np.stack(samples.features)
        result = (probe_places(vectors, np.stack(samples.labels), samples.videos)
                  if probe == PLACE else probe_classes(vectors, samples.labels, samples.videos))
        if result is not None:
            results[stage, probe] = result
    return results


def stages_of(layers: list[str]) -> list[str]:
    """All stages, in the order of the table."""
    return [TOWER, PROJECTOR, *layers, *(f'answer, {name}' for name in layers), SEG]


def format_markdown(results: Results, layers: list[str]) -> str:
    """Lay the figures out as a Markdown table, with what is chance at the end."""
    probes = [probe for probe in PROBES if any(key[1] == probe for key in results)]
    names = [f'{probe}, error in %' if probe == PLACE else probe for probe in probes]
    lines = ['| stage | ' + ' | '.join(names) + ' |', '|---|' + '---:|' * len(probes)]
    for stage in stages_of(layers):
        cells = [f'{results[stage, probe].figure:.1f}' if (stage, probe) in results else '-'
                 for probe in probes]
        lines.append(f'| {stage} | ' + ' | '.join(cells) + ' |')
    for what, stage in (('object tokens', PROJECTOR), ('answers', SEG)):
        for name in ('chance', 'number'):
            cells = [f'{getattr(results[stage, probe], name):.{int(name == "chance")}f}'
                     if (stage, probe) in results else '-' for probe in probes]
            title = 'chance' if name == 'chance' else 'samples'
            lines.append(f'| {title}, {what} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def plot(results: Results, layers: list[str]) -> Figure:
    """Draw each probe over the stages."""
    probes = [probe for probe in PROBES if any(key[1] == probe for key in results)]
    figure = Figure(figsize=(3.2 * len(probes), 3.4), dpi=100, layout='constrained')
    columns = [TOWER, PROJECTOR, *layers, SEG]
    for i, probe in enumerate(probes):
        axes = figure.add_subplot(1, len(probes), i + 1)
        lines = {'object tokens': [TOWER, PROJECTOR, *layers, ''],
                 'answer': ['', '', *(f'answer, {name}' for name in layers), SEG]}
        for (name, stages), colour in zip(lines.items(), ('#0072b2', '#d55e00')):
            found = [results.get((stage, probe)) for stage in stages]
            axes.plot([np.nan if item is None else item.figure for item in found], marker='o',
                      markersize=3, color=colour, label=name)
            axes.plot([np.nan if item is None else item.chance for item in found],
                      linestyle='--', linewidth=0.8, color=colour)
        axes.set_title(f'{probe}\n' + ('error, % of the side' if probe == PLACE
                                       else 'balanced accuracy, %'), fontsize=9)
        step = max(1, len(columns) // 12)
        axes.set_xticks(range(0, len(columns), step), columns[::step], rotation=90, fontsize=7)
        axes.tick_params(axis='y', labelsize=7)
        axes.grid(alpha=0.25)
        if i == 0:
            axes.legend(fontsize=7)
    return figure


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Linear probes of every stage of a GLUS')
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='as for tools/test.py')
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    parser.add_argument('--videos', type=int, metavar='N', help='only the first N videos')
    parser.add_argument('--out', metavar='F.json', help='write every number into this file')
    parser.add_argument('--plot', metavar='F.png', help='draw the figure into this file')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values')
    return parser, parser.parse_args()


def main() -> None:
    """Read, fit, print the table."""
    parser, args = parse_args()
    try:
        out, picture = (None if path is None else ensure_writable_file(path)
                        for path in (args.out, args.plot))
        cfg = read_config(args.config, args.cfg_options)
        model = init_model(cfg, args.checkpoint, args.device)
        if not isinstance(model, GLUS):
            raise ValueError(f'expected a GLUS, got {type(model).__name__}: {args.config}')
        features = collect(model, cfg, args.videos)
    except (OSError, KeyError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))
    results = run_probes(features)
    print(format_markdown(results, features.layers))
    if out is not None:
        rows = [dict(stage=stage, probe=probe, **asdict(result))
                for (stage, probe), result in results.items()]
        out.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
    if picture is not None:
        plot(results, features.layers).savefig(Path(picture))


if __name__ == '__main__':
    main()
