"""GLUS on Qwen2.5-VL and Qwen3-VL; importing this registers the parts with glus_mm."""

from qwen_vl.qwen_tokenizer import BuildQwenConversation, QwenTokenizer
from qwen_vl.qwen_vl_mllm import QwenVLMLLM

__all__ = ['BuildQwenConversation', 'QwenTokenizer', 'QwenVLMLLM']
