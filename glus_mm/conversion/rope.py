"""The buffers ``rotary_emb.inv_freq`` of official checkpoints, which follow from the sizes."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def inv_freq(llm: dict[str, Any]) -> Tensor:
    """Inverse frequencies (head width / 2) of an LLM, as transformers 4.31 computed them.

    Scaling types act later, on positions or at long sequences, and leave the buffer as it is.

    Args:
        llm: sizes, as ``LlavaMLLM(llm=...)`` takes them.

    Returns:
        float32.
    """
    width = llm.get('head_dim') or llm['hidden_size'] // llm['num_attention_heads']
    theta = (llm.get('rope_parameters') or {}).get('rope_theta', 10000.0)
    return 1.0 / (theta**(torch.arange(0, width, 2).float() / width))


def check_inv_freq(name: str, value: Tensor, llm: dict[str, Any], file: Path) -> None:
    """Raise ``ValueError`` if a stored buffer is not what the sizes give."""
    expected = inv_freq(llm).to(value.dtype)
    if value.shape != expected.shape or not torch.allclose(
            value.float(), expected.float(), rtol=torch.finfo(value.dtype).eps, atol=0):
        raise ValueError(f'{file}: expected {name} to be the standard rotary frequencies '
                         f'{expected[:4].tolist()}... ({len(expected)} of them), got '
                         f'{value.flatten()[:4].tolist()}... {tuple(value.shape)}')
