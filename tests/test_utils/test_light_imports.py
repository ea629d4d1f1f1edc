import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from mmengine.registry import DefaultScope

from glus_mm.registry import OPTIMIZERS
from glus_mm.utils.light_imports import hidden

HEAVY = ('bitsandbytes', 'datasets', 'deepspeed', 'gradio', 'matplotlib', 'peft', 'scipy',
         'torch._dynamo', 'transformers.trainer', 'transformers.trainer_utils')


def in_new_process(program):
    """What a program prints, as JSON."""
    done = subprocess.run([sys.executable, '-c', program], check=True, capture_output=True,
                          text=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_model_is_built_without_libraries_that_it_does_not_use():
    loaded = in_new_process(
        'import json, sys\n'
        'from glus_mm.apis import GLUSInferencer, init_model\n'
        "model = init_model('glus_tiny_moving-shapes')\n"
        'import mmengine.runner\n'  # which imports mmengine._strategy
        'from glus_mm.utils.config_keys import check_config_keys\n'
        'check_config_keys(model.cfg)\n'
        f'print(json.dumps([name for name in {HEAVY} if name in sys.modules]))')
    assert loaded == []


def test_what_needs_no_model_or_torch():
    loaded = in_new_process(
        'import json, sys\n'
        'import glus_mm.datasets, glus_mm.text.prompt, glus_mm.video\n'
        f"names = {(*HEAVY, 'transformers', 'sam2', 'glus_mm.models.mllms')}\n"
        'print(json.dumps([name for name in names if name in sys.modules]))')
    assert loaded == []
    assert not in_new_process('import json, sys\nimport glus_mm.text.prompt\n'
                              "print(json.dumps('torch' in sys.modules))")
    from glus_mm.models.mllms.prompt import build_prompt
    from glus_mm.models.mllms.tokenizer import SegTokenizer
    from glus_mm.text import prompt, tokenizer

    assert build_prompt is prompt.build_prompt
    assert SegTokenizer is tokenizer.SegTokenizer


@pytest.mark.slow
def test_optimizers_of_other_libraries_are_registered_on_first_use():
    """The same classes under the same names as MMEngine registers them by itself."""
    with_ours, before, after = in_new_process(
        'import json, sys, logging\n'
        'import glus_mm\n'
        'from mmengine.registry import OPTIMIZERS, init_default_scope\n'
        'import mmengine.optim\n'
        'from mmengine.optim.optimizer import builder\n'
        "init_default_scope('glus_mm')\n"
        "OPTIMIZERS.get('AdamW')\n"
        "before = 'bitsandbytes' in sys.modules\n"
        'import torch\n'
        'layer = torch.nn.Linear(2, 2)\n'
        "OPTIMIZERS.build(dict(type='Adafactor', params=layer.parameters()))\n"
        'names = {name: f"{c.__module__}.{c.__name__}" for name, c in '
        'OPTIMIZERS.module_dict.items()}\n'
        "names['lists'] = [builder.BITSANDBYTES_OPTIMIZERS, builder.TRANSFORMERS_OPTIMIZERS]\n"
        "print(json.dumps([names, before, 'bitsandbytes' in sys.modules]))")
    alone = in_new_process(
        'import json\n'
        'from mmengine.registry import OPTIMIZERS\n'
        'import mmengine.optim\n'
        'from mmengine.optim.optimizer import builder\n'
        'names = {name: f"{c.__module__}.{c.__name__}" for name, c in '
        'OPTIMIZERS.module_dict.items()}\n'
        "names['lists'] = [builder.BITSANDBYTES_OPTIMIZERS, builder.TRANSFORMERS_OPTIMIZERS]\n"
        'print(json.dumps(names))')
    assert with_ours == alone
    assert not before
    assert after == ('bnb_AdamW' in alone or 'AdamW8bit' in alone)


def test_names_that_are_not_there():
    with DefaultScope.overwrite_default_scope('glus_mm'), \
            pytest.raises(KeyError, match='NoSuchOptimizer'):
        OPTIMIZERS.build(dict(type='NoSuchOptimizer', params=torch.nn.Linear(1, 1).parameters()))
    with hidden(['json', 'no_such_module']):
        with pytest.raises(ImportError):
            import json as gone  # noqa: F401
        with pytest.raises(ImportError):
            import no_such_module  # noqa: F401
    assert sys.modules['json'] is json
    assert 'no_such_module' not in sys.modules


@pytest.mark.slow
@pytest.mark.skipif(find_spec('deepspeed') is None, reason='needs DeepSpeed')
def test_deepspeed_is_there_once_a_strategy_asks_for_it():
    before, version, name = in_new_process(
        'import json, sys\n'
        'import glus_mm\n'
        'from mmengine._strategy import deepspeed as strategy\n'
        "before = 'deepspeed' in sys.modules\n"
        'print(json.dumps([before, strategy.deepspeed.__version__, '
        "strategy.deepspeed.initialize.__name__]))")
    assert not before
    assert name == 'initialize'
    assert version[0].isdigit()


@pytest.mark.slow
def test_libraries_that_are_imported_late():
    before, rows, there = in_new_process(
        'import json, sys\n'
        'import glus_mm\n'
        'import transformers.modeling_utils\n'
        'from transformers.loss import loss_for_object_detection as loss\n'
        'from transformers.utils import is_scipy_available\n'
        "before = 'scipy' in sys.modules\n"
        'rows = loss.linear_sum_assignment([[3, 1], [1, 3]])[1].tolist()\n'
        'print(json.dumps([before, rows, is_scipy_available()]))')
    assert not before and rows == [1, 0] and there
    before, after = in_new_process(
        'import gc, json, sys\n'
        'from glus_mm.models import LlavaMLLM\n'
        'from transformers import masking_utils\n'
        'from transformers.integrations import deepgemm, finegrained_fp8, flex_attention\n'
        'import torchvision.ops, torchvision.tv_tensors\n'
        "names = [n for n in sys.modules if n.startswith('torch._dynamo')]\n"
        "before = [names, gc.isenabled(), gc.get_freeze_count()]\n"
        "made = masking_utils.TransformGetItemToIndex()\n"
        'from torch._dynamo import trace_rules\n'
        'from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex\n'
        'from torch._dynamo.utils import is_compile_supported\n'
        'allowed = trace_rules._allowed_callable_ids\n'
        'after = dict(\n'
        '    made=isinstance(made, TransformGetItemToIndex),\n'
        '    masks=masking_utils.TransformGetItemToIndex is TransformGetItemToIndex,\n'
        '    roi=torchvision.ops.roi_align.__globals__["is_compile_supported"]\n'
        '    is is_compile_supported,\n'
        '    constants=[n for n, f in vars(deepgemm).items() if getattr(\n'
        "        f, '_dynamo_marked_constant', False)],\n"
        '    allowed=[n for m in (deepgemm, finegrained_fp8) for n, f in vars(m).items()\n'
        '             if id(f) in allowed],\n'
        "    flex=flex_attention.WrappedFlexAttention(False).training)\n"
        'print(json.dumps([before, after]))')
    alone = in_new_process(
        'import json\n'
        'from transformers import LlamaModel\n'
        'from transformers.integrations import deepgemm, finegrained_fp8\n'
        'from torch._dynamo import trace_rules\n'
        'allowed = trace_rules._allowed_callable_ids\n'
        'print(json.dumps(dict(\n'
        '    constants=[n for n, f in vars(deepgemm).items() if getattr(\n'
        "        f, '_dynamo_marked_constant', False)],\n"
        '    allowed=[n for m in (deepgemm, finegrained_fp8) for n, f in vars(m).items()\n'
        '             if id(f) in allowed])))')
    assert before == [[], True, 0]
    assert after == dict(alone, made=True, masks=True, roi=True, flex=False)
