import sys

import pytest
from mmengine import Config

from glus_mm.utils import weight_files
from glus_mm.utils.command_line import read_config
from glus_mm.utils.config_keys import override_model


def test_a_name_that_has_moved_works_and_says_where_it_is():
    from glus_mm.conversion import weight_files as old

    with pytest.warns(DeprecationWarning, match='glus_mm.utils.weight_files now; .* glus_mm 0.2'):
        assert old.read_weights is weight_files.read_weights
    with pytest.raises(AttributeError):
        _ = old.no_such_name


def test_what_a_project_has_now_says_how_to_run_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'video_qa', None)  # as if it were not on the path
    with pytest.raises(ImportError, match='run with PYTHONPATH=projects/video_qa'):
        from glus_mm.models import VideoQASelector  # noqa: F401
    for name in ('chat-univi-7b_video-qa', 'configs/selectors/chat-univi-7b_video-qa.py'):
        with pytest.raises(FileNotFoundError, match='run with PYTHONPATH=projects/video_qa'):
            read_config(name)
    from glus_mm.registry import MODELS
    monkeypatch.delitem(MODELS._module_dict, 'VideoQASelector', raising=False)
    cfg = Config(dict(default_scope='glus_mm', model=dict(type='VideoQASelector')))
    with pytest.raises(KeyError, match="custom_imports=dict.imports=.'video_qa'"):
        override_model(cfg, {}, 'a config')
