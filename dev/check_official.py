"""Compare this package, number for number, with what the official GLUS code computed.

The fixture is a folder with a tiny checkpoint in the official layout, and inputs and outputs of
the official code; a compact copy lies in ``tests/data/official_glus_tiny``. The checkpoint is
converted, and then used as users do. Example::

    python dev/check_official.py tests/data/official_glus_tiny

Prints one row per comparison. Exits with 1 if anything differs by more than its tolerance, or if
a part of the fixture is missing.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from mmengine.logging import MMLogger
from official_checks import CHECKS, OfficialFixture, Report

from glus_mm.utils.paths import ensure_writable_file


def main() -> int:
    """Check what was asked for, then compare."""
    parser = argparse.ArgumentParser(
        description='Compare glus_mm with numbers of the official GLUS code')
    parser.add_argument('fixture', help='folder of the official fixture')
    parser.add_argument('--out', metavar='F', help='also write the table as JSON')
    parser.add_argument('--parts', nargs='+', choices=list(CHECKS), default=list(CHECKS),
                        metavar='PART', help=f'only these parts: {", ".join(CHECKS)}')
    args = parser.parse_args()
    # Building models says much that does not belong beside the table.
    MMLogger.get_instance('check_official', log_level='ERROR')
    try:
        if args.out is not None:
            ensure_writable_file(args.out)
        report = Report()
        with tempfile.TemporaryDirectory(prefix='check_official_') as work_dir:
            fixture = OfficialFixture(args.fixture, work_dir)
            for part in args.parts:
                start = time.perf_counter()
                report.run(part, lambda report, part=part: CHECKS[part](fixture, report))
                print(f'{part}: {time.perf_counter() - start:.1f} s', file=sys.stderr)
    except OSError as error:
        parser.error(str(error))
    print(report.table())
    failed = [row for row in report.rows if not row.ok]
    print(f'\n{len(report.rows) - len(failed)} of {len(report.rows)} comparisons agree'
          + (f'; {len(failed)} FAILED' if failed else ''))
    if args.out is not None:
        Path(args.out).write_text(json.dumps(report.as_dict(), indent=1) + '\n', encoding='utf-8')
    return 0 if report.ok else 1


if __name__ == '__main__':
    sys.exit(main())
