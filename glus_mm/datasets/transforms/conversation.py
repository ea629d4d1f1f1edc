"""The text side of a training sample."""

import numpy as np
from mmcv.transforms import BaseTransform

from glus_mm.models.mllms.prompt import build_conversation, get_template
from glus_mm.models.mllms.tokenizer import SegTokenizer
from glus_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class BuildConversation(BaseTransform):
    """Build one conversation per expression, with one turn per query frame.

    Question and answer of each turn are drawn from the template's. For the meaning of the ids and
    labels see :func:`glus_mm.models.mllms.prompt.build_conversation`.

    Required keys: ``expressions``, ``context_frame_ids``, ``query_frame_ids``, ``rng``.
    Added keys: ``input_ids``, a list (E) of int64 arrays (L,) with -200 at each image, and
    ``labels``, likewise, with -100 where nothing is supervised. L differs between expressions.

    Args:
        tokenizer: name or folder, as for ``SegTokenizer.from_pretrained``; the MLLM's.
        template: name of the prompt template.

    Raises:
        ValueError: there is no such tokenizer or template, or an expression is empty.
    """

    def __init__(self, tokenizer: str, template: str) -> None:
        self.tokenizer = SegTokenizer.from_pretrained(tokenizer)
        self.template = get_template(template)

    def transform(self, results: dict) -> dict:
        """Build; see the class."""
        rng, num_turns = results['rng'], len(results['query_frame_ids'])
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
