# The shipped model on the key frame; the SAM-2 inside it tracks without words. Test only.
_base_ = ['./shipped_start.py']
model = dict(test_cfg=dict(propagator=dict(
    type='SAM2Propagator', dynamic_multimask=False, use_pointers=False, use_object_scores=False)))
