-- Failed attempts to sign in, by address and by account, for rate limits. restored_on: when all of the limit of a key can be used again. After a
-- crash of PostgreSQL the table is empty.

CREATE UNLOGGED TABLE directus_failed_attempts (
    key text PRIMARY KEY,
    restored_on timestamptz NOT NULL
) WITH (fillfactor = 50);
