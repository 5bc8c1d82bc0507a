"""Event triggers: PostgreSQL notifies the server of changes of tables by other programs.

The function of the triggers only calls NOTIFY, within the transaction that changes tables. It needs no privileges, waits for no lock
and raises no error. A transaction that notifies cannot be prepared (PREPARE TRANSACTION), so the function does nothing where the
database server allows prepared transactions.
"""

from directus_tx.db.pool import CHANNEL, TABLES
from directus_tx.db.session import Session

FUNCTION = "directus_tables_changed"
CHANGED, DROPPED = "directus_tables_changed", "directus_tables_dropped"
"""The names of the event triggers. The event ddl_command_end does not tell which objects a DROP has dropped."""

# Temporary objects are left out: programs create and drop them often.
_BODY = f"""
BEGIN
    IF current_setting('max_prepared_transactions')::integer > 0 THEN
        RETURN;
    END IF;
    IF (CASE TG_EVENT
        WHEN 'sql_drop' THEN EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary)
        ELSE EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE schema_name IS DISTINCT FROM 'pg_temp')
    END) THEN
        PERFORM pg_notify('{CHANNEL}', '{TABLES}:' || txid_current());
    END IF;
EXCEPTION WHEN OTHERS THEN
    -- The statement of the other program must not fail.
    RETURN;
END
"""

_DROP = f"""
DROP EVENT TRIGGER IF EXISTS {CHANGED};
DROP EVENT TRIGGER IF EXISTS {DROPPED};
DROP FUNCTION IF EXISTS $schema.{FUNCTION}();
"""

_CREATE = f"""
{_DROP}
CREATE FUNCTION $schema.{FUNCTION}() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body${_BODY}$body$;
CREATE EVENT TRIGGER {CHANGED} ON ddl_command_end EXECUTE FUNCTION $schema.{FUNCTION}();
CREATE EVENT TRIGGER {DROPPED} ON sql_drop EXECUTE FUNCTION $schema.{FUNCTION}();
"""

# A role that may not do this changes nothing, and causes no error in the log.
_UNLESS_FORBIDDEN = "DO $do$ BEGIN {} EXCEPTION WHEN insufficient_privilege THEN NULL; END $do$"

_PRESENT = f"SELECT count(*) FROM pg_event_trigger WHERE evtname IN ('{CHANGED}', '{DROPPED}')"
_STATE = f"""
SELECT ({_PRESENT}), (
    SELECT count(*) FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
    WHERE e.evtname IN ('{CHANGED}', '{DROPPED}') AND p.prosrc = %s
), rolsuper, current_setting('transaction_read_only')::boolean
FROM pg_roles WHERE rolname = current_user
"""

IN_USE = f"""
(SELECT count(*) = 2 FROM pg_event_trigger WHERE evtname IN ('{CHANGED}', '{DROPPED}') AND evtenabled IN ('O', 'A'))
AND NOT pg_is_in_recovery() AND current_setting('max_prepared_transactions') = '0'
"""
"""The SQL condition that changes of tables are notified of. A standby has the triggers of its primary, but does not notify."""

PARTS = f"SELECT oid, -2, xmin::text FROM pg_event_trigger WHERE evtname IN ('{CHANGED}', '{DROPPED}')"
"""The query of the rows of the catalogue that say so, for the fingerprint of the schema."""


async def provide(session: Session, *, wanted: bool, asked: bool) -> bool:
    """Creates the event triggers, or drops them if they are not *wanted*. Returns False if that is not possible, because the role of the
    server may not do it or the database can only be read. Only superusers may create event triggers, except on some managed database
    servers: whether the role may is tried if the setting *asked* for them, otherwise only superusers try."""
    may = False

    async def is_done(session: Session) -> bool:
        nonlocal may
        ((present, current, superuser, read_only),) = await session.query(_STATE, (_BODY,))
        may = (superuser or asked) and not read_only
        return bool(current == 2 if wanted else present == 0)

    async def work(session: Session) -> bool:
        # Another process may have been faster.
        if not await is_done(session):
            text = (_CREATE if wanted else _DROP).replace("$schema", f'"{session.database.system_schema}"')
            await session.query(_UNLESS_FORBIDDEN.format(text))
        return await is_done(session)

    if await is_done(session):
        return True
    return may and await session.schema_change(work)
