# Table 6 of the paper, Cutie: GLUS-S masks the key frame, Cutie carries it on. Published: J&F 58.3 on
# MeViS valid_u, with the key frames of the paper's selector. Not run here.
_base_ = ['../../../configs/glus/glus_lisa-7b_sam2-l.py']
custom_imports = dict(imports=['glus_mm_cutie'])
model = dict(test_cfg=dict(propagator=dict(
    type='glus_mm_cutie.CutiePropagator', checkpoint='checkpoints/cutie-base-mega.pth')))
