# Table 7 of the paper: MeViS and Ref-YouTube-VOS 2:1, without the contrastive loss.
_base_ = ['./glus_lisa-7b_sam2-l_4xb2-3k_mevis-ref-youtube-vos_ratio-1-1.py']
train_dataloader = dict(sampler=dict(ratios=[2, 1]))
