-- security_stamp: JWTs contain it, and are valid as long as their user has the same; 0: they contain none. It changes with the password, and
-- when the user gets another status than active. New users have another one than those of before who had the same id. stamp_session: the
-- session that has changed the password, whose JWTs stay valid.

ALTER TABLE directus_users ADD COLUMN security_stamp bigint NOT NULL DEFAULT 0, ADD COLUMN stamp_session bigint;
ALTER TABLE directus_users ALTER COLUMN security_stamp SET DEFAULT 1 + floor(random() * 9007199254740990)::bigint;

CREATE FUNCTION directus_new_security_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.security_stamp = 1 + floor(random() * 9007199254740990)::bigint;
    NEW.stamp_session = NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER directus_new_security_stamp BEFORE UPDATE OF status ON directus_users
    FOR EACH ROW WHEN (NEW.status <> 'active' AND OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION directus_new_security_stamp();

DROP TRIGGER directus_touched ON directus_users;
CREATE TRIGGER directus_touched AFTER INSERT OR DELETE OR TRUNCATE
    OR UPDATE OF id, status, role, email, password, token, "2fa_secret", security_stamp, stamp_session ON directus_users
    FOR EACH STATEMENT EXECUTE FUNCTION directus_touched('accounts');

-- locked: failed sign-ins have suspended the user. Whoever causes that need not know any secret, so the tokens of the user stay.

ALTER TABLE directus_user_sign_ins ADD COLUMN locked boolean NOT NULL DEFAULT FALSE;

CREATE OR REPLACE FUNCTION directus_status_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE directus_user_sign_ins SET failures = 0, locked = FALSE WHERE "user" = NEW.id;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION directus_user_deactivated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM directus_user_sessions WHERE "user" = OLD.id;
    IF NOT EXISTS (SELECT FROM directus_user_sign_ins WHERE "user" = OLD.id AND locked) THEN
        DELETE FROM directus_user_tokens WHERE "user" = OLD.id;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER directus_user_deleted AFTER DELETE ON directus_users FOR EACH ROW EXECUTE FUNCTION directus_user_deactivated();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION directus_new_security_stamp() SET search_path = %%I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION directus_status_changed() SET search_path = %%I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION directus_user_deactivated() SET search_path = %%I, pg_temp', current_schema());
END
$$;
