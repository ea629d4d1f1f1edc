"""The objects that travel between all components."""

from glus_mm.structures.ref_vos_data_sample import RefVOSDataSample

__all__ = ['RefVOSDataSample']
