"""Has moved to projects/ablation_study/ablation.py."""
import pathlib, runpy, sys  # noqa: E401, I001
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2] / 'projects' / 'ablation_study')
print('this tool has moved to projects/ablation_study/ablation.py', file=sys.stderr)
runpy.run_path(f'{sys.path[0]}/ablation.py', run_name='__main__')
