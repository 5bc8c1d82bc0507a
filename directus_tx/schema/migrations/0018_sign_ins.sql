-- The failed sign-ins of a user since the last successful one, and the time step of the last one-time password that was used. The failures of
-- a user who is suspended are kept, because they tell why.

CREATE TABLE directus_user_sign_ins (
    "user" bigint PRIMARY KEY REFERENCES directus_users ON DELETE CASCADE,
    failures integer NOT NULL DEFAULT 0,
    code_step bigint
);

CREATE FUNCTION directus_status_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE directus_user_sign_ins SET failures = 0 WHERE "user" = NEW.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER directus_status_changed AFTER UPDATE OF status ON directus_users
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status <> 'suspended') EXECUTE FUNCTION directus_status_changed();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION directus_status_changed() SET search_path = %%I, pg_temp', current_schema());
END
$$;
