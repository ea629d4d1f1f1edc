"""The field's evaluation protocols: what counts, what is measured, how it is averaged."""

from glus_mm.evaluation.protocols.base_protocol import BaseProtocol, Summary, Track
from glus_mm.evaluation.protocols.davis import DAVISSemiProtocol, DAVISUnsupProtocol
from glus_mm.evaluation.protocols.expression_protocol import ExpressionFrame, ExpressionProtocol
from glus_mm.evaluation.protocols.long_rvos import LongRVOSProtocol
from glus_mm.evaluation.protocols.mevis import MeViSProtocol
from glus_mm.evaluation.protocols.mose_v2 import MOSEv2Protocol
from glus_mm.evaluation.protocols.object_protocol import LabelFrame, ObjectProtocol
from glus_mm.evaluation.protocols.plain import GroundMoReProtocol, ReasonVOSProtocol
from glus_mm.evaluation.protocols.ref_davis import RefDAVISGLUSProtocol, RefDAVISProtocol
from glus_mm.evaluation.protocols.ref_sav import RefSAVProtocol
from glus_mm.evaluation.protocols.revos import ReVOSProtocol

PROTOCOLS: dict[str, type[BaseProtocol]] = {
    protocol.name: protocol
    for protocol in (MeViSProtocol, ReVOSProtocol, RefDAVISProtocol, RefDAVISGLUSProtocol,
                     ReasonVOSProtocol, LongRVOSProtocol, GroundMoReProtocol, RefSAVProtocol,
                     DAVISSemiProtocol, DAVISUnsupProtocol, MOSEv2Protocol)
}
"""All protocols, by name."""

__all__ = [
    'PROTOCOLS', 'BaseProtocol', 'DAVISSemiProtocol', 'DAVISUnsupProtocol', 'ExpressionFrame',
    'ExpressionProtocol', 'GroundMoReProtocol', 'LabelFrame', 'LongRVOSProtocol',
    'MOSEv2Protocol', 'MeViSProtocol', 'ObjectProtocol', 'RefDAVISGLUSProtocol',
    'RefDAVISProtocol', 'RefSAVProtocol', 'ReVOSProtocol', 'ReasonVOSProtocol', 'Summary',
    'Track'
]
