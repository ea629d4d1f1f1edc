"""The text side of a training sample, in Qwen's chat format."""

from mmcv.transforms import BaseTransform

from glus_mm.registry import TRANSFORMS
from glus_mm.text.prompt import get_template
from qwen_vl.chat import build_conversation
from qwen_vl.qwen_tokenizer import QwenTokenizer


@TRANSFORMS.register_module()
class BuildQwenConversation(BaseTransform):
    """``BuildConversation`` for Qwen; the same keys go in and out.

    Args:
        tokenizer: name or folder, as for :class:`QwenTokenizer`; the MLLM's.
        template: name of the prompt template, whose texts are used.
    """

    def __init__(self, tokenizer: str, template: str) -> None:
        self.tokenizer = QwenTokenizer(tokenizer)
        self.template = get_template(template)

    def transform(self, results: dict) -> dict:
        """Build one conversation per expression, question and answer drawn for each turn."""
        rng, turns = results['rng'], len(results['query_frame_ids'])
        built = [build_conversation(
            self.tokenizer, self.template, expression['exp'], len(results['context_frame_ids']),
            rng.integers(len(self.template.questions), size=turns).tolist(),
            rng.integers(len(self.template.answers), size=turns).tolist())
            for expression in results['expressions']]
        results['input_ids'] = [ids for ids, _ in built]
        results['labels'] = [labels for _, labels in built]
        return results
