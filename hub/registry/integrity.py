"""What the database's refusals mean: the constraint that fired, as a code."""

from sqlalchemy.exc import SQLAlchemyError

from hub.registry.codes import Code, Refused

# Words of the refusal, PostgreSQL's then SQLite's, most telling first.
MEANINGS = (
    ("ACTIVATION_AT_REGISTRATION", Code.ACTIVATION_AT_REGISTRATION),
    ("WOULD_OPEN_GATE", Code.WOULD_OPEN_GATE),
    ("STATUS_NOT_ELIGIBLE", Code.STATUS_NOT_ELIGIBLE),
    ("uq_consumed_logical_request_key", Code.REPLAY_DUPLICATE),
    ("consumed_request.logical_request_key", Code.REPLAY_DUPLICATE),
    ("uq_consumed_authorization_nonce", Code.REPLAY_NONCE_CONSUMED),
    ("consumed_request.authorization_nonce", Code.REPLAY_NONCE_CONSUMED),
    ("consumed_request_pkey", Code.REPLAY_ATTEMPT_NO_BYPASS),
    ("consumed_request.attempt_id", Code.REPLAY_ATTEMPT_NO_BYPASS),
    ("attempt_pkey", Code.REPLAY_ATTEMPT_NO_BYPASS),
    ("attempt.attempt_id", Code.REPLAY_ATTEMPT_NO_BYPASS),
    ("uq_dot_tools_name", Code.NAME_TAKEN),
    ("dot_tools.name", Code.NAME_TAKEN),
    ("uq_dot_tools_address", Code.ADDRESS_TAKEN),
    ("dot_tools.tunnel_address", Code.ADDRESS_TAKEN),
    ("uq_dot_tools_identity", Code.IDENTITY_DUPLICATE),
    ("dot_tools.identity", Code.IDENTITY_DUPLICATE),
    ("dot_tools_pkey", Code.IDENTITY_DUPLICATE),
    ("dot_tools.dot_code", Code.IDENTITY_DUPLICATE),
)


def refusal(error: SQLAlchemyError, phase: int) -> Refused:
    said = str(getattr(error, "orig", None) or error).strip()
    line = said.splitlines()[0] if said else type(error).__name__
    for words, code in MEANINGS:
        if words in said:
            return Refused(code, line, phase)
    return Refused(Code.WRITE_FAILED, line, phase)
