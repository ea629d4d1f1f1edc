"""Projects that others build on are importable."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / 'projects' / 'video_qa'))
