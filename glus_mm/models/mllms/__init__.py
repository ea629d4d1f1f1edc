"""Multimodal LLMs, their prompts and tokenizers."""

import sys

from glus_mm.models.mllms.base_mllm import BaseMLLM, SegTokens
from glus_mm.models.mllms.causal_mllm import CausalMLLM
from glus_mm.models.mllms.chat_univi import ChatUniViMLLM
from glus_mm.models.mllms.llava import LlavaMLLM
from glus_mm.models.mllms.lora import LoRA
from glus_mm.text import prompt, tokenizer, tokenizer_files
from glus_mm.utils.deprecation import moved

# The names that they had before glus_mm.text.
sys.modules.update({f'{__name__}.{module.__name__.rpartition(".")[2]}': module
                    for module in (prompt, tokenizer, tokenizer_files)})

__all__ = ['BaseMLLM', 'CausalMLLM', 'ChatUniViMLLM', 'LlavaMLLM', 'LoRA', 'SegTokens']

__getattr__ = moved(__name__, 'video_qa', '0.2', ('AnswerCfg', 'BaseVideoQA'))
