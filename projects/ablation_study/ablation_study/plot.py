"""The figure of a study: J&F of its rows, overall and on the groups that tell them apart."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt

from ablation_study.report import Results
from ablation_study.rows import ALL, CROWD, IN_SIGHT, ROWS

COLOURS = {'trained': '#4878a8', 'shipped': '#d8b48c'}
PANELS = (ALL, 'event', 'look-alike', CROWD, IN_SIGHT)


def draw(results: Results, path: Path) -> None:
    """Draw a panel for each of some groups: a dot for each seed, a bar for their mean."""
    rows = [row for row in ROWS if row.name in results.figures]
    figure, axes = plt.subplots(
        1, len(PANELS), figsize=(13, 1 + 0.34 * len(rows)), sharey=True, squeeze=False,
        layout='constrained')
    for axis, group in zip(axes[0], PANELS):
        for place, row in enumerate(rows):
            means = results.means(row.name, group)
            if means:
                colour = COLOURS.get(row.kind, '#b0c4d8')
                axis.barh(place, sum(means) / len(means), color=colour, height=0.7)
                axis.plot(means, [place] * len(means), 'o', color='#1c2c3c', markersize=3.5)
        axis.set_title(group)
        axis.set_xlabel('J&F in %')
        axis.grid(axis='x', alpha=0.4)
        axis.set_axisbelow(True)
    axes[0][0].set_yticks(range(len(rows)), [row.title for row in rows])
    axes[0][0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)
