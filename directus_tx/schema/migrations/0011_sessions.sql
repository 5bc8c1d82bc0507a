-- Sessions are found by the SHA-256 of their cookie or JWT. Rows from before hold the tokens as they are, and no server uses them any more.

DELETE FROM directus_user_sessions;

CREATE INDEX directus_user_sessions_expired ON directus_user_sessions (token_expired_at);

-- Processes keep the users of cookies in memory. JWTs are valid until they expire, whether or not their sessions are ended.

CREATE FUNCTION directus_sessions_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM ended WHERE token_type = 'cookie') THEN
        PERFORM directus_touch('accounts');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER directus_sessions_ended AFTER DELETE ON directus_user_sessions
    REFERENCING OLD TABLE AS ended FOR EACH STATEMENT EXECUTE FUNCTION directus_sessions_ended();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION directus_sessions_ended() SET search_path = %%I, pg_temp', current_schema());
END
$$;
