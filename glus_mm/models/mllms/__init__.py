"""Multimodal LLMs, their prompts and tokenizers."""

from glus_mm.models.mllms.base_mllm import BaseMLLM, SegTokens
from glus_mm.models.mllms.base_video_qa import AnswerCfg, BaseVideoQA
from glus_mm.models.mllms.causal_mllm import CausalMLLM
from glus_mm.models.mllms.chat_univi import ChatUniViMLLM
from glus_mm.models.mllms.llava import LlavaMLLM
from glus_mm.models.mllms.lora import LoRA

__all__ = ['AnswerCfg', 'BaseMLLM', 'BaseVideoQA', 'CausalMLLM', 'ChatUniViMLLM', 'LlavaMLLM',
           'LoRA', 'SegTokens']
