"""Make docs/leaderboard.md of docs/leaderboard.yml; ``make docs`` runs it.

A new figure goes into the YAML file, whose head says what it needs::

    python dev/make_leaderboard.py
"""

from pathlib import Path

import yaml

DOCS = Path(__file__).resolve().parents[1] / 'docs'
SOURCE, PAGE = DOCS / 'leaderboard.yml', DOCS / 'leaderboard.md'
WEIGHTS = ('open', 'api', 'none', '?')
FIELDS = {'name', 'weights', 'frames', 'external_vos', 'figures'}

_HEAD = """<!-- Made by dev/make_leaderboard.py of leaderboard.yml, which is the file to change. -->
# Published figures

J&F in percent of systems that segment what a sentence refers to, as their authors or others
published them. **Published means published: nothing here was run by us.** Systems differ in what
they were trained on, in the frames that their language model sees and in what carries masks along,
so that a higher figure need not be the better method. What was measured here is in the
[model zoo](model_zoo.md); two systems whose masks you have are compared
[with intervals](evaluation.md#compare-two-systems).
"""
_LEGEND = """
*Weights*: open, or api where a part can only be called over a network. *Frames*: what the language
model sees. *External VOS*: what carries masks from frame to frame and was not trained with the
model. `?`: the sources that were read do not say. \\*: not seen in its source by who entered it,
see below.
"""


def load(path: Path = SOURCE) -> dict:
    """Read the figures and check them.

    Raises:
        ValueError: something is missing, unknown or out of range.
    """
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    for key, source in content['sources'].items():
        if set(source) != {'title', 'where', 'url'} or not source['url'].startswith('https://'):
            raise ValueError(f'{path}: source {key!r}: expected title, where and an https url, got '
                             f'{source}')
    names = [system['name'] for system in content['systems']]
    if len(set(names)) != len(names):
        raise ValueError(f'{path}: expected each system once, got {sorted(names)}')
    for system in content['systems']:
        where = f'{path}: system {system.get("name")!r}'
        if set(system) != FIELDS or system['weights'] not in WEIGHTS:
            raise ValueError(f'{where}: expected {sorted(FIELDS)} with weights out of {WEIGHTS}, '
                             f'got {system}')
        for benchmark, figure in system['figures'].items():
            _check_figure(content, benchmark, figure, f'{where}, {benchmark!r}')
    unused = set(content['sources']) - {figure['source'] for system in content['systems']
                                        for figure in system['figures'].values()}
    if unused:
        raise ValueError(f'{path}: expected only sources that figures have, got {sorted(unused)}')
    return content


def _check_figure(content: dict, benchmark: str, figure: dict, where: str) -> None:
    if benchmark not in content['benchmarks']:
        raise ValueError(f'{where}: expected one of {list(content["benchmarks"])}')
    if not {'value', 'source', 'place'} <= set(figure) <= {'value', 'source', 'place', 'verified',
                                                           'note'}:
        raise ValueError(f'{where}: expected value, source and place, got {figure}')
    if figure['source'] not in content['sources'] or not figure['place']:
        raise ValueError(f'{where}: expected a place in one of {list(content["sources"])}, got '
                         f'{figure}')
    # A share of 1 would be below 1.
    if not isinstance(figure['value'], (int, float)) or not 1 <= figure['value'] <= 100:
        raise ValueError(f'{where}: expected J&F in percent, 1 to 100, got {figure["value"]!r}')
    if not figure.get('verified', True) and not figure.get('note'):
        raise ValueError(f'{where}: expected a note with a figure that was not verified')


def render(content: dict) -> str:
    """Lay the figures out as a page in Markdown."""
    benchmarks = content['benchmarks']
    lines = [_HEAD, '| system | ' + ' | '.join(benchmarks.values())
             + ' | weights | frames | external VOS |',
             '|---|' + '---:|' * len(benchmarks) + '---|---|---|']
    for system in content['systems']:
        cells = [_cell(system['figures'].get(benchmark)) for benchmark in benchmarks]
        lines.append(f'| {system["name"]} | ' + ' | '.join(cells) + f' | {system["weights"]} | '
                     f'{system["frames"]} | {system["external_vos"]} |')
    lines += [_LEGEND, '## Where each figure stands', '', '| system | figure | source | |',
              '|---|---|---|---|']
    for system in content['systems']:
        for benchmark, figure in system['figures'].items():
            source = content['sources'][figure['source']]
            text = f'[{source["where"]}]({source["url"]}), {figure["place"]}'
            verified = figure.get('verified', True)
            note = figure.get('note', '')
            if not verified:
                text = f'as reported in {text}'
                note = f'not verified: {note}'
            lines.append(f'| {system["name"]} | {benchmarks[benchmark]} {figure["value"]:.1f} | '
                         f'{text} | {note} |')
    lines += ['', '## Sources', '']
    lines += [f'- {source["title"]}. {source["where"]}. <{source["url"]}>'
              for source in content['sources'].values()]
    lines += ['', 'A figure is missing or wrong? Change `docs/leaderboard.yml`, run '
              '`python dev/make_leaderboard.py`,', 'and send both files.']
    return '\n'.join(lines) + '\n'


def _cell(figure: dict | None) -> str:
    if figure is None:
        return ''
    return f'{figure["value"]:.1f}' + ('' if figure.get('verified', True) else '\\*')


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(load()), encoding='utf-8')


if __name__ == '__main__':
    main()
