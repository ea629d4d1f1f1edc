"""Run the program whose former name this is where it lies now, and say so."""

import runpy
import sys
from pathlib import Path

NAME = Path(sys.argv[0]).name
FOLDER = 'projects/ablation_study' if NAME == 'ablation.py' else 'dev'
sys.path[0] = str(Path(__file__).resolve().parents[2] / FOLDER)
print(f'this tool has moved to {FOLDER}/{NAME}', file=sys.stderr)
runpy.run_path(f'{sys.path[0]}/{NAME}', run_name='__main__')
