"""Language models that see frames: tokenizer, prompts and (later) the models themselves."""
