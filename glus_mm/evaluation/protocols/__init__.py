"""The field's evaluation protocols: what counts, what is measured, how it is averaged."""

from glus_mm.evaluation.protocols.base_protocol import BaseProtocol, Summary, Track
from glus_mm.evaluation.protocols.expression_protocol import (
    ExpressionFrame,
    ExpressionProtocol,
    GroundMoReProtocol,
    LongRVOSProtocol,
    MeViSProtocol,
    ReasonVOSProtocol,
    RefDAVISGLUSProtocol,
    RefSAVProtocol,
    ReVOSProtocol,
)
from glus_mm.evaluation.protocols.object_protocol import (
    DAVISSemiProtocol,
    DAVISUnsupProtocol,
    LabelFrame,
    MOSEv2Protocol,
    ObjectProtocol,
    RefDAVISProtocol,
)

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
