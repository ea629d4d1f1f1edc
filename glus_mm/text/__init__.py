"""Prompts and tokenizers; nothing here needs torch."""
