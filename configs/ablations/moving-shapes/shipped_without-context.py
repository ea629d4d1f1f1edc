# The shipped model, which was trained with context, tested without. Test only.
_base_ = ['./glu_mb.py']
model = dict(test_cfg=dict(num_context=0))
