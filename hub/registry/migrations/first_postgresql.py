"""What PostgreSQL itself refuses, and how it numbers changes of the roster."""

from hub.registry.migrations.first_sqlite import APPEND_ONLY, FIXED, KEPT

REFUSE = """
CREATE FUNCTION m13_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '23514',
        MESSAGE = TG_TABLE_NAME || ' rows stay: ' || TG_OP || ' refused';
END $$
"""


def _refuse(table: str, verb: str) -> str:
    each = "STATEMENT" if verb == "TRUNCATE" else "ROW"
    return f"""
    CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}
    FOR EACH {each} EXECUTE FUNCTION m13_refuse()
    """


def _fixed(table: str, columns: list[str]) -> str:
    changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in columns)
    return f"""
    CREATE TRIGGER {table}_fixed BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({changed})
    EXECUTE FUNCTION m13_refuse()
    """


INSERT = """
CREATE FUNCTION m13_dot_tools_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'inert' OR NEW.change_ref IS NOT NULL OR NEW.revision <> 0 THEN
        RAISE EXCEPTION 'ACTIVATION_AT_REGISTRATION' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$
"""

STATUS = """
CREATE FUNCTION m13_dot_tools_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status IS NOT DISTINCT FROM OLD.status AND NEW.revision = OLD.revision
       AND NEW.change_ref IS NOT DISTINCT FROM OLD.change_ref THEN
        RETURN NEW;
    END IF;
    IF NEW.revision <> OLD.revision + 1 OR NOT (
        (NEW.status = 'quarantined' AND OLD.status IN ('inert', 'active')
         AND NEW.change_ref IS NOT DISTINCT FROM OLD.change_ref)
        OR (NEW.change_ref IS DISTINCT FROM OLD.change_ref AND EXISTS (
          SELECT 1 FROM consumed_request AS c
          WHERE c.logical_request_key = NEW.change_ref AND c.subject = NEW.dot_code AND (
            (c.action = 'activate_dot' AND OLD.status = 'inert' AND NEW.status = 'active')
            OR (c.action = 'deactivate_dot' AND OLD.status = 'active' AND NEW.status = 'inert')
            OR (c.action = 'revoke_dot' AND OLD.status <> 'revoked' AND NEW.status = 'revoked'))))
    ) THEN
        RAISE EXCEPTION 'STATUS_NOT_ELIGIBLE' USING ERRCODE = '23514';
    END IF;
    IF NEW.tier = 'watch' AND (NEW.status = 'active') <> (OLD.status = 'active') THEN
        UPDATE registry_generation SET generation = generation + 1
        RETURNING generation INTO NEW.changed_generation;
    END IF;
    RETURN NEW;
END $$
"""

GATE = """
CREATE FUNCTION m13_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.is_open THEN
            RAISE EXCEPTION 'WOULD_OPEN_GATE' USING ERRCODE = '23514';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.revision <> OLD.revision + 1 OR NEW.change_ref IS NOT DISTINCT FROM OLD.change_ref
       OR NOT EXISTS (
        SELECT 1 FROM consumed_request AS c
        WHERE c.logical_request_key = NEW.change_ref AND c.subject = NEW.name
        AND c.action = CASE WHEN NEW.is_open THEN 'open_gate' ELSE 'close_gate' END) THEN
        RAISE EXCEPTION 'WOULD_OPEN_GATE' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$
"""


def _trigger(name: str, event: str, table: str, function: str) -> str:
    return (
        f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW"
        f" EXECUTE FUNCTION {function}()"
    )


TRIGGERS = [
    REFUSE,
    INSERT,
    STATUS,
    GATE,
    *(_refuse(table, verb) for table in APPEND_ONLY for verb in ("UPDATE", "DELETE", "TRUNCATE")),
    *(_refuse(table, verb) for table in KEPT for verb in ("DELETE", "TRUNCATE")),
    *(_fixed(table, names.split()) for table, names in FIXED.items()),
    _trigger("dot_tools_inert", "INSERT", "dot_tools", "m13_dot_tools_insert"),
    _trigger("dot_tools_status", "UPDATE", "dot_tools", "m13_dot_tools_status"),
    _trigger("runtime_gate_change", "INSERT OR UPDATE", "runtime_gate", "m13_gate"),
]
