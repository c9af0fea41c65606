"""Phase 0: what the request means, computed from the deployed carrier alone. Writes nothing."""

import base64
from collections.abc import Mapping

from hub.registry.codes import Code, Refused
from hub.registry.envelope import (
    ARTIFACT_TYPES,
    CANONICALIZATION_VERSION,
    HASH_ALGORITHM,
    HUB_IDENTITY,
    NODE_IDENTITY,
    XDP_OBJECT,
    RequestProposed,
    TrustedAttested,
)
from hub.registry.store import ArtifactStore, NotProven, is_canonical_path
from m13 import enrollment, pqc
from m13.canonical import digest

PHASE = 0
# The start of a 64-bit little-endian ELF file, and of a relocatable object for machine EM_BPF.
ELF_IDENTIFICATION = b"\x7fELF\x02\x01\x01"
ELF_RELOCATABLE_BPF = (1).to_bytes(2, "little") + (247).to_bytes(2, "little")
ELF_HEADER_BYTES = 64
ROLE_TYPES = {"node": NODE_IDENTITY, "hub": HUB_IDENTITY}


def resolve(
    request: RequestProposed,
    store: ArtifactStore,
    operators: Mapping[str, bytes],
    provider: pqc.Provider,
) -> TrustedAttested:
    """The trusted envelope, or Refused: no trusted hash comes out of a doubt."""
    if not is_canonical_path(request.artifact_path):
        raise Refused(Code.SOURCE_NOT_DEPLOYED, "the path is not canonical", PHASE)
    if request.hash_algorithm != HASH_ALGORITHM:
        raise Refused(Code.HASH_MISMATCH, f"unknown algorithm {request.hash_algorithm}", PHASE)
    if request.canonicalization_version != CANONICALIZATION_VERSION:
        raise Refused(Code.HASH_MISMATCH, "unknown canonicalization version", PHASE)
    try:
        carrier = store.carrier(request.artifact_path, operators, provider)
    except NotProven as error:
        raise Refused(Code.SOURCE_NOT_DEPLOYED, str(error), PHASE) from error
    trusted_hash = digest(carrier.data)
    if trusted_hash != carrier.artifact_hash:
        raise Refused(Code.HASH_MISMATCH, "the deployed file drifted from its manifest", PHASE)
    if trusted_hash != request.artifact_hash:
        raise Refused(Code.HASH_MISMATCH, f"deployed is {trusted_hash}", PHASE)
    kind, name, identity, public_key = sniff(carrier.data, provider)
    if kind not in ARTIFACT_TYPES or {kind} != {request.artifact_type, carrier.artifact_type}:
        wanted = request.artifact_type
        raise Refused(Code.ARTIFACT_TYPE_MISMATCH, f"not a {wanted} but {kind}", PHASE)
    return TrustedAttested(
        artifact_hash=trusted_hash,
        artifact_type=kind,
        canonical_path=request.artifact_path,
        origin=request.origin,
        drift_state="NONE",
        source_carrier_ref=carrier.reference,
        hash_algorithm=HASH_ALGORITHM,
        canonicalization_version=CANONICALIZATION_VERSION,
        admission_ref=request.admission_ref,
        name=name,
        identity=identity,
        public_key=public_key,
    )


def sniff(data: bytes, provider: pqc.Provider) -> tuple[str, str, str, str]:
    """Type, name, identity and public key (base64), from the content alone."""
    elf = data.startswith(ELF_IDENTIFICATION) and len(data) >= ELF_HEADER_BYTES
    if elf and data[16:20] == ELF_RELOCATABLE_BPF:
        content = digest(data)
        return XDP_OBJECT, f"bpf-{content[:8]}", f"sha256:{content}", ""
    try:
        document = enrollment.read(data, provider)
    except ValueError as error:
        return f"unknown content ({error})", "", "", ""
    key = base64.b64encode(document.public_key).decode()
    return ROLE_TYPES[document.role], document.name, document.fingerprint, key
