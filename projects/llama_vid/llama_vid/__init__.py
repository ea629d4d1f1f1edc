"""LLaMA-VID as an off-the-shelf key-frame selector of glus_mm."""

from llama_vid.llama_vid_video_qa import LlamaVidVideoQA

__all__ = ['LlamaVidVideoQA']
