"""Every code a request can be refused with: the word is the interface, the text is for people."""

from enum import StrEnum

from m13.errors import M13Error

REFUSED_EXIT_STATUS = 5
AWAITING_EXIT_STATUS = 6


class Code(StrEnum):
    # Phase 0
    MASS_REGISTRATION_ATTEMPTED = "MASS_REGISTRATION_ATTEMPTED"
    REQUEST_MALFORMED = "REQUEST_MALFORMED"
    SOURCE_NOT_DEPLOYED = "SOURCE_NOT_DEPLOYED"
    HASH_MISMATCH = "HASH_MISMATCH"
    ARTIFACT_TYPE_MISMATCH = "ARTIFACT_TYPE_MISMATCH"
    # Phase 1
    OWNER_ABSENT = "OWNER_ABSENT"
    APR_NOT_BOUND_TO_ARTIFACT = "APR_NOT_BOUND_TO_ARTIFACT"
    QUORUM_NOT_PROVEN = "QUORUM_NOT_PROVEN"
    # Phase 2
    REPLAY_DUPLICATE = "REPLAY_DUPLICATE"
    REPLAY_NONCE_CONSUMED = "REPLAY_NONCE_CONSUMED"
    NONCE_UNBOUND = "NONCE_UNBOUND"
    REPLAY_ATTEMPT_NO_BYPASS = "REPLAY_ATTEMPT_NO_BYPASS"
    # Phase 3
    REGISTRATION_HOLD = "REGISTRATION_HOLD"
    ACTIVATION_AT_REGISTRATION = "ACTIVATION_AT_REGISTRATION"
    WOULD_OPEN_GATE = "WOULD_OPEN_GATE"
    IDENTITY_UNIQUE_ABSENT = "IDENTITY_UNIQUE_ABSENT"
    IDENTITY_DUPLICATE = "IDENTITY_DUPLICATE"
    NAME_TAKEN = "NAME_TAKEN"
    ADDRESS_TAKEN = "ADDRESS_TAKEN"
    ADDRESS_EXHAUSTED = "ADDRESS_EXHAUSTED"
    INSECURE_TRANSPORT = "INSECURE_TRANSPORT"
    PRIVILEGED_PATH_USED = "PRIVILEGED_PATH_USED"
    WRITE_FAILED = "WRITE_FAILED"
    # Phase 4
    POST_COMMIT_VERIFY_FAIL = "POST_COMMIT_VERIFY_FAIL"
    # Phase 5
    AUDIT_SINK_UNAVAILABLE = "AUDIT_SINK_UNAVAILABLE"
    AUDIT_CHAIN_BROKEN = "AUDIT_CHAIN_BROKEN"
    # Phase 6
    GATE_CLOSED = "GATE_CLOSED"
    STATUS_NOT_ELIGIBLE = "STATUS_NOT_ELIGIBLE"
    NOT_VERIFIED = "NOT_VERIFIED"
    # What a hub says of a key it does not let in, or of itself
    NOT_REGISTERED = "NOT_REGISTERED"
    REGISTERED_INERT = "REGISTERED_INERT"
    QUARANTINED = "QUARANTINED"
    REVOKED = "REVOKED"
    XDP_OBJECT_NOT_ACTIVE = "XDP_OBJECT_NOT_ACTIVE"
    HUB_NOT_ACTIVE = "HUB_NOT_ACTIVE"
    REGISTRY_UNAVAILABLE = "REGISTRY_UNAVAILABLE"


EXPLANATIONS: dict[Code, tuple[str, str]] = {
    Code.MASS_REGISTRATION_ATTEMPTED: (
        "The request names more than one artifact: a list, or a path with * ? [.",
        "Make one request an artifact.",
    ),
    Code.REQUEST_MALFORMED: (
        "A field is missing, unknown, of the wrong type or too long.",
        "Make the request with 'm13 registry propose' or 'm13 admit'.",
    ),
    Code.SOURCE_NOT_DEPLOYED: (
        "No proven carrier: nothing lies at that path of the artifact store, the path is not"
        " canonical (symlink, '..'), or its manifest is not signed by an operator.",
        "Deploy the artifact with 'm13 registry propose FILE'.",
    ),
    Code.HASH_MISMATCH: (
        "The deployed artifact does not have the hash that its manifest or the request says, or"
        " the algorithm is unknown.",
        "Find out who changed the store; then propose the artifact anew.",
    ),
    Code.ARTIFACT_TYPE_MISMATCH: (
        "The artifact's content is not of the type the request says, or proves no possession of"
        " its key.",
        "Compare the file with what the node's operator sent.",
    ),
    Code.OWNER_ABSENT: (
        "Nobody owns artifacts of this type, so nobody can approve one.",
        "Name an owner with 'm13 registry init --owner'.",
    ),
    Code.APR_NOT_BOUND_TO_ARTIFACT: (
        "There is no approval request for this action on exactly this artifact.",
        "Propose it: 'm13 registry propose'; see what is open: 'm13 registry list --open'.",
    ),
    Code.QUORUM_NOT_PROVEN: (
        "Fewer approvals of the owner's operators verify than the quorum asks for, or it expired.",
        "Have another operator run 'm13 registry approve'.",
    ),
    Code.REPLAY_DUPLICATE: (
        "This very request took effect before; the decision shown is the prior one.",
        "Nothing: it is done.",
    ),
    Code.REPLAY_NONCE_CONSUMED: (
        "The authorization nonce was used up by another request.",
        "Propose again; a nonce serves once.",
    ),
    Code.NONCE_UNBOUND: (
        "The nonce is not the one the approvals were given for.",
        "Use the request as it was approved.",
    ),
    Code.REPLAY_ATTEMPT_NO_BYPASS: (
        "An attempt id stands where the request key belongs: a new attempt is no new request.",
        "Retry the same request; its key follows from what it does.",
    ),
    Code.REGISTRATION_HOLD: (
        "The registry is held: nothing is registered until its owner lifts the hold.",
        "m13 registry gate open registration",
    ),
    Code.ACTIVATION_AT_REGISTRATION: (
        "A registration asked for a status other than inert.",
        "Register first; activation is another request.",
    ),
    Code.WOULD_OPEN_GATE: (
        "A registration would have opened a runtime gate or met the notify condition.",
        "Open gates with 'm13 registry gate open', apart from registrations.",
    ),
    Code.IDENTITY_UNIQUE_ABSENT: (
        "The database lacks a uniqueness constraint that admission rests on.",
        "Restore the schema: 'm13 registry init' on a copy shows what it must be.",
    ),
    Code.IDENTITY_DUPLICATE: (
        "This key or object is registered already, under another request.",
        "See it with 'm13 registry show'; a revoked key stays revoked: make a new one.",
    ),
    Code.NAME_TAKEN: (
        "Another artifact of this type that is not revoked has the name.",
        "Choose another name, or revoke the other first.",
    ),
    Code.ADDRESS_TAKEN: (
        "The tunnel address belongs to another node, to the hub, or is outside the subnet.",
        "Give another --address, or none.",
    ),
    Code.ADDRESS_EXHAUSTED: (
        "The registry's subnet has no free address.",
        "Revoke nodes that are gone, or begin a registry with a larger subnet.",
    ),
    Code.INSECURE_TRANSPORT: (
        "The way to PostgreSQL is neither a Unix socket nor TLS.",
        "Add ?sslmode=verify-full to the URL, or use a socket.",
    ),
    Code.PRIVILEGED_PATH_USED: (
        "The database is reached in a way that its own rules do not bind: a superuser, disabled"
        " triggers, or a file that others can write.",
        "Use an ordinary role; chmod 600 the file.",
    ),
    Code.WRITE_FAILED: (
        "The database refused the write or went away; nothing was written.",
        "Mend the database and retry the same request.",
    ),
    Code.POST_COMMIT_VERIFY_FAIL: (
        "What was read back is not what was admitted; the row is quarantined.",
        "Read 'm13 registry audit show', find who wrote to the database, enroll a new key.",
    ),
    Code.AUDIT_SINK_UNAVAILABLE: (
        "The audit cannot be written or is not append-only; no success is reported without it.",
        "Mend the database; then retry the same request, or run 'm13 registry verify'.",
    ),
    Code.AUDIT_CHAIN_BROKEN: (
        "The audit was edited, cut or reordered, or a checkpoint does not fit it.",
        "Compare with a checkpoint kept elsewhere; treat the registry as compromised.",
    ),
    Code.GATE_CLOSED: (
        "A runtime gate is closed, so nothing is activated.",
        "m13 registry gate; m13 registry gate open NAME",
    ),
    Code.STATUS_NOT_ELIGIBLE: (
        "The artifact's present status does not allow that step.",
        "See it with 'm13 registry show'.",
    ),
    Code.NOT_VERIFIED: (
        "The row has no durable verification, so it cannot be activated.",
        "m13 registry verify",
    ),
    Code.NOT_REGISTERED: (
        "The key is unknown to the registry.",
        "Have the node run 'm13 enroll' and admit its request with 'm13 admit'.",
    ),
    Code.REGISTERED_INERT: (
        "The node is registered and not active.",
        "m13 registry activate NAME",
    ),
    Code.QUARANTINED: (
        "The node's row failed verification and is set aside.",
        "m13 registry audit show; enroll a new key.",
    ),
    Code.REVOKED: (
        "The node was revoked, for good.",
        "Enroll it with a new key if it may come back.",
    ),
    Code.XDP_OBJECT_NOT_ACTIVE: (
        "The registry has active XDP objects and the hub's is not among them.",
        "m13 admit hub/steer.bpf.o",
    ),
    Code.HUB_NOT_ACTIVE: (
        "The registry has active hub identities and this hub's is not among them.",
        "m13 enroll --role hub, then m13 admit on its request.",
    ),
    Code.REGISTRY_UNAVAILABLE: (
        "The registry cannot be reached or opened.",
        "Look at the URL, the server, and 'm13 registry init'.",
    ),
}


class Refused(Exception):
    """A phase says no. `detail` is for people and never decides anything."""

    def __init__(self, code: Code, detail: str, phase: int) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail, self.phase = code, detail, phase


class RegistryError(M13Error):
    """The registry refused; the line begins with the code."""

    exit_status = REFUSED_EXIT_STATUS

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail} ('m13 registry explain {code}' tells more)", code)
