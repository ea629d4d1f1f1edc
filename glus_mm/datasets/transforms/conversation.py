"""The text side of a training sample."""

import numpy as np
from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.text.prompt import build_conversation, get_template, load_tokenizer
from glus_mm.utils.checked import checked

SEG_PER = ('frame', 'video')


@TRANSFORMS.register_module()
class BuildConversation(BaseTransform):
    """Build one conversation per expression, with one turn per query frame by default.

    Question and answer of each turn are drawn from the template's. For the meaning of the ids and
    labels see :func:`glus_mm.text.prompt.build_conversation`.

    Required keys: ``expressions``, ``context_frame_ids``, ``query_frame_ids``, ``rng``.
    Added keys: ``input_ids``, a list (E) of int64 arrays (L,) with -200 at each image, and
    ``labels``, likewise, with -100 where nothing is supervised. L differs between expressions.

    Args:
        tokenizer: name or folder, as for ``SegTokenizer.from_pretrained``; the MLLM's.
        template: name of the prompt template.
        seg_per: ``'frame'``, or ``'video'`` for a single turn, about the first query frame, whose
            ``[SEG]`` stands for all of them; the same as ``model.train_cfg.seg_per``.

    Raises:
        ValueError: there is no such tokenizer, template or ``seg_per``, or an expression is empty.
    """

    def __init__(self, tokenizer: str, template: str, seg_per: str = 'frame') -> None:
        checked(SEG_PER, seg_per=seg_per)
        self.seg_per = seg_per
        self.template = get_template(template)
        self.tokenizer = load_tokenizer(tokenizer, self.template)

    def transform(self, results: dict) -> dict:
        """Build; see the class."""
        rng = results['rng']
        num_turns = len(results['query_frame_ids']) if self.seg_per == 'frame' else 1
        results['input_ids'], results['labels'] = [], []
        for expression in results['expressions']:
            questions = rng.integers(len(self.template.questions), size=num_turns).tolist()
            answers = rng.integers(len(self.template.answers), size=num_turns).tolist()
            input_ids, labels = build_conversation(
                self.tokenizer, self.template, expression['exp'],
                len(results['context_frame_ids']), questions, answers)
            results['input_ids'].append(np.asarray(input_ids, dtype=np.int64))
            results['labels'].append(np.asarray(labels, dtype=np.int64))
        return results
