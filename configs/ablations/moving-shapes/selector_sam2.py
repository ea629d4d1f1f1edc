# Table 6: from the key frame on, the SAM-2 inside the model tracks without words. Test only.
_base_ = ['./selector_start.py']
model = dict(test_cfg=dict(propagator=dict(
    type='SAM2Propagator', dynamic_multimask=False, use_pointers=False, use_object_scores=False)))
