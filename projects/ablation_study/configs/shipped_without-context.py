# The shipped model, which was trained with context, tested without. Test only.
_base_ = ['./glu.py']
model = dict(train_cfg=dict(use_memory=True), test_cfg=dict(use_memory=True, num_context=0))
