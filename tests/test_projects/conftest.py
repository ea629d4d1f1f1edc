"""Projects that others build on are importable."""

import sys

from programs import ROOT

sys.path.append(str(ROOT / 'projects' / 'video_qa'))
