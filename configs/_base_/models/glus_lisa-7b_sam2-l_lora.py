# What the paper trains of the published model (section B.2): adapters on the LLM, its embeddings
# and head, both projectors, and the mask decoder. All else is frozen, in bfloat16.
_base_ = ['./glus_lisa-7b_sam2-l.py']
model = dict(
    mllm=dict(
        lora=dict(r=8, alpha=16, dropout=0.05, target_modules=('q_proj', 'v_proj')),
        trainable=[
            'llm.*.lora_*', 'llm.embed_tokens.*', 'lm_head.*', 'projector.*', 'seg_projector.*'
        ],
        gradient_checkpointing=True),
    # All of the decoder but conv_s0 and conv_s1 (their names begin with c), which belong to the
    # image features. Gradients flow through the frozen memory modules; detach_memory=True stops
    # them, as the official code does.
    mask_head=dict(detach_memory=False, trainable=['sam2.sam_mask_decoder.[!c]*']))
