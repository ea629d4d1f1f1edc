"""docs/leaderboard.md is what docs/leaderboard.yml says, and that has sources and a range."""

import copy

import pytest
import yaml

import programs
from programs import ROOT


@pytest.fixture(scope='module')
def tool():
    return programs.load(ROOT / 'dev' / 'make_leaderboard.py')


def test_page_is_that_of_the_file(tool):
    assert tool.PAGE.read_text(encoding='utf-8') == tool.render(tool.load()), \
        'run python dev/make_leaderboard.py'
    content, page = tool.load(), tool.render(tool.load())
    for system in content['systems']:
        for benchmark, figure in system['figures'].items():
            title = content['benchmarks'][benchmark]
            row = f'| {system["name"]} | {title} {figure["value"]:.1f} | '
            line = next(line for line in page.splitlines() if line.startswith(row))
            assert content['sources'][figure['source']]['url'] in line
            assert ('not verified' in line) != figure.get('verified', True)
    assert 'nothing here was run by us' in page


@pytest.mark.parametrize('change,message', [
    (dict(value=0.513), 'J&F in percent, 1 to 100, got 0.513'),
    (dict(value=101), 'J&F in percent'),
    (dict(value='51.3'), "J&F in percent, 1 to 100, got '51.3'"),
    (dict(source='rumour'), 'a place in one of'),
    (dict(place=''), 'a place in one of'),
    (dict(verified=False), 'a note with a figure that was not verified'),
    (dict(reference='x'), 'expected value, source and place'),
])
def test_what_a_figure_needs(tool, tmp_path, change, message):
    content = copy.deepcopy(tool.load())
    glus = next(system for system in content['systems'] if system['name'] == 'GLUS-A')
    glus['figures']['mevis'].update(change)
    (tmp_path / 'f.yml').write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        tool.load(tmp_path / 'f.yml')


def test_what_a_system_and_a_source_need(tool, tmp_path):
    for change, message in [
            (lambda c: c['systems'][0].pop('frames'), "system 'AgentRVOS, GPT-5': expected"),
            (lambda c: c['systems'][0].update(weights='maybe'), 'weights out of'),
            (lambda c: c['systems'].append(c['systems'][0]), 'each system once'),
            (lambda c: c['sources'].update(x=dict(title='x', where='x', url='https://x')),
             "only sources that figures have, got .'x'"),
            (lambda c: c['sources']['glus'].update(url='paper.pdf'), 'an https url')]:
        content = copy.deepcopy(tool.load())
        change(content)
        (tmp_path / 'f.yml').write_text(yaml.safe_dump(content))
        with pytest.raises(ValueError, match=message):
            tool.load(tmp_path / 'f.yml')
