"""The frozen envelopes that join the phases. What a phase learns goes on in one, nothing else."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from hub.registry.codes import Code, Refused
from m13.canonical import canonical, digest

REGISTER, ACTIVATE, DEACTIVATE, REVOKE = (
    "register_dot",
    "activate_dot",
    "deactivate_dot",
    "revoke_dot",
)
OPEN_GATE, CLOSE_GATE = "open_gate", "close_gate"
ADD_KEY, REVOKE_KEY = "add_key", "revoke_key"
RECOVER_KEY = "recover_key"  # add_key on the hub's own authority, when a quorum cannot be had
# Taking away must not wait for a quorum: one operator of the owner suffices.
EASING = frozenset({DEACTIVATE, REVOKE, CLOSE_GATE})

NODE_IDENTITY, HUB_IDENTITY, XDP_OBJECT = "node_identity", "hub_identity", "xdp_object"
ARTIFACT_TYPES = (NODE_IDENTITY, HUB_IDENTITY, XDP_OBJECT)
GOVERNANCE = "governance"  # object type of gates and operator keys

HASH_ALGORITHM = "sha256"
CANONICALIZATION_VERSION = "1"
FIELD_CHARACTERS_MAX = 512
GLOB = frozenset("*?[]{}")


class Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


def record(envelope: Dataclass) -> dict[str, Any]:
    """As it is shown and audited; bytes have no place in an envelope that is."""
    return dataclasses.asdict(envelope)


@dataclass(frozen=True)
class RequestProposed:
    """request_proposed: what a caller claims of one artifact; nothing of it is trusted."""

    artifact_path: str
    artifact_hash: str
    hash_algorithm: str
    canonicalization_version: str
    artifact_type: str
    origin: str
    admission_ref: str

    @classmethod
    def parse(cls, value: object) -> "RequestProposed":
        """Refused with MASS_REGISTRATION_ATTEMPTED or REQUEST_MALFORMED."""
        if isinstance(value, list):
            raise Refused(Code.MASS_REGISTRATION_ATTEMPTED, "a list of requests", 0)
        names = {entry.name for entry in dataclasses.fields(cls)}
        if not isinstance(value, dict):
            raise Refused(Code.REQUEST_MALFORMED, "a request is one table of fields", 0)
        for name in sorted(names & value.keys()):
            _check_scalar(name, value[name])
        if value.keys() != names:
            odd = ", ".join(sorted(map(str, value.keys() ^ names)))
            raise Refused(Code.REQUEST_MALFORMED, f"missing or unknown: {odd[:200]}", 0)
        return cls(**value)


def _check_scalar(name: str, value: object) -> None:
    if isinstance(value, list | tuple | set | dict):
        raise Refused(Code.MASS_REGISTRATION_ATTEMPTED, f"{name} is not a single value", 0)
    if not isinstance(value, str) or not value or len(value) > FIELD_CHARACTERS_MAX:
        raise Refused(Code.REQUEST_MALFORMED, f"{name} must be 1 to 512 characters of text", 0)
    if not value.isprintable() or not value.isascii():
        raise Refused(Code.REQUEST_MALFORMED, f"{name} must be printable ASCII", 0)
    if name == "artifact_path" and GLOB & set(value):
        raise Refused(Code.MASS_REGISTRATION_ATTEMPTED, f"{value} is a pattern", 0)


@dataclass(frozen=True)
class TrustedAttested:
    """trusted_attested, phase 0: computed from the deployed carrier, never from the caller."""

    artifact_hash: str
    artifact_type: str
    canonical_path: str
    origin: str
    drift_state: str
    source_carrier_ref: str
    hash_algorithm: str
    canonicalization_version: str
    admission_ref: str
    name: str
    identity: str  # fingerprint of the key, or sha256: of an object
    public_key: str = field(repr=False)  # base64; empty for an object

    @property
    def dot_code(self) -> str:
        return dot_code(self.artifact_type, self.name, self.identity)


def dot_code(artifact_type: str, name: str, identity: str) -> str:
    """The one name of a row: type, name, and enough of the identity to tell keys apart."""
    short = artifact_type.partition("_")[0]
    return f"{short}.{name}.{digest(identity.encode())[:8]}"


@dataclass(frozen=True)
class RequestKeys:
    """The three identities of a request: what it does, what allows it once, this try at it."""

    logical_request_key: str
    authorization_nonce: str
    attempt_id: str


def logical_request_key(action: str, subject: str, artifact_hash: str, revision: int = 0) -> str:
    """Follows from the effect alone: a new nonce or attempt cannot make it another request."""
    effect = {
        "action": action,
        "artifact_hash": artifact_hash,
        "revision": revision,
        "subject": subject,
    }
    return digest(canonical(effect))


@dataclass(frozen=True)
class AuthorityClaim:
    """What phase 1 is asked: may this be done, to exactly this, now?"""

    action: str
    object_type: str
    subject: str
    artifact_hash: str
    revision: int
    keys: RequestKeys
    apr_ref: str
    tunnel_address: str = ""


@dataclass(frozen=True)
class AuthorityDecision:
    """Phase 1."""

    owner_head_ref: str
    apr_ref: str
    quorum_proof_ref: str
    artifact_hash_bound: str
    action: str
    subject: str
    revision: int
    authorization_nonce: str
    owner: str
    quorum: int
    approvers: tuple[str, ...]


@dataclass(frozen=True)
class ConsumeRecord:
    """Phase 2, written within phase 3's transaction."""

    logical_request_key: str
    authorization_nonce: str
    attempt_id: str
    apr_ref: str
    action: str
    subject: str


@dataclass(frozen=True)
class RegisteredRowIntent:
    """registered_row_intent: what phase 3 is to write."""

    dot_code: str
    trusted: TrustedAttested
    owner: str
    tier: str
    keys: RequestKeys
    tunnel_address: str = ""  # empty: the next free one of the registry's subnet
    status: str = "inert"
    opens_gates: tuple[str, ...] = ()


@dataclass(frozen=True)
class WriteDecision:
    """Phase 3, after its commit."""

    dot_code: str
    status: str
    tunnel_address: str
    attempt_id: str
    logical_request_key: str


@dataclass(frozen=True)
class VerifierReadback:
    """Phase 4."""

    dot_code: str
    rows: int
    status: str
    artifact_hash: str
    audit_sequence: int
    matches: bool
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditEnvelope:
    """What phase 5 is given to keep."""

    run_id: str
    phase: int
    event: str
    reject_codes: tuple[str, ...] = ()
    logical_request_key: str = ""
    subject: str = ""
    payload_classification: str = "decision"
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditReceipt:
    sequence: int
    entry_hash: str


@dataclass(frozen=True)
class StatusChange:
    """Phase 6: one step of a registered row."""

    action: str
    dot_code: str
    before: str
    after: str
    revision: int
    keys: RequestKeys


@dataclass(frozen=True)
class Decision:
    """How a request ended: outcome is DONE, REPLAY_DUPLICATE or REJECTED."""

    outcome: str
    run_id: str
    action: str
    subject: str
    keys: RequestKeys
    phase: int
    reject_codes: tuple[str, ...] = ()
    detail: str = ""
    proofs: dict[str, Any] = field(default_factory=dict)
    prior: dict[str, Any] | None = None

    @property
    def succeeded(self) -> bool:
        return self.outcome == "DONE"
