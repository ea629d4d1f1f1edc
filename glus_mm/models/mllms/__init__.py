"""Multimodal LLMs, their prompts and tokenizers."""

import sys

from glus_mm.models.mllms.base_mllm import BaseMLLM, SegTokens
from glus_mm.models.mllms.causal_mllm import CausalMLLM, LoRA
from glus_mm.models.mllms.chat_univi import ChatUniViMLLM
from glus_mm.models.mllms.llava import LlavaMLLM
from glus_mm.text import prompt, tokenizer
from glus_mm.utils.deprecation import moved

# The names that they had before glus_mm.text.
sys.modules.update({f'{__name__}.prompt': prompt, f'{__name__}.tokenizer': tokenizer,
                    f'{__name__}.tokenizer_files': tokenizer})

__all__ = ['BaseMLLM', 'CausalMLLM', 'ChatUniViMLLM', 'LlavaMLLM', 'LoRA', 'SegTokens']

__getattr__ = moved(__name__, 'video_qa', '0.2', ('AnswerCfg', 'BaseVideoQA'))
