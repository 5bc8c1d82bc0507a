-- The failed sign-ins of a user since the last successful one, and the time step of the last one-time password that was used. The failures of
-- a user who is suspended are kept, because they tell why.

CREATE TABLE directus_user_sign_ins (
    "user" bigint PRIMARY KEY REFERENCES directus_users ON DELETE CASCADE,
    failures integer NOT NULL DEFAULT 0,
    code_step bigint
);

CREATE FUNCTION directus_user_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IS DISTINCT FROM NEW.status AND NEW.status <> 'suspended' THEN
        UPDATE directus_user_sign_ins SET failures = 0 WHERE "user" = NEW.id;
    END IF;
    IF OLD."2fa_secret" IS DISTINCT FROM NEW."2fa_secret" THEN
        UPDATE directus_user_sign_ins SET code_step = NULL WHERE "user" = NEW.id;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER directus_user_changed AFTER UPDATE OF status, "2fa_secret" ON directus_users
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD."2fa_secret" IS DISTINCT FROM NEW."2fa_secret")
    EXECUTE FUNCTION directus_user_changed();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION directus_user_changed() SET search_path = %%I, pg_temp', current_schema());
END
$$;
