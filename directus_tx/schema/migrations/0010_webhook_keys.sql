-- What webhooks have beside the fields that clients know. owner: the user who made the webhook or changed where it sends what; NULL: unknown, or
-- the command. secret: signs the requests, sealed with the project's key; NULL: they are not signed. previous_secret signs as well until
-- previous_until.

CREATE TABLE directus_webhook_keys (
    webhook bigint PRIMARY KEY REFERENCES directus_webhooks ON DELETE CASCADE,
    owner bigint,
    secret text,
    previous_secret text,
    previous_until timestamptz
);

INSERT INTO directus_webhook_keys (webhook, owner)
SELECT w.id, nullif((
    SELECT a.action_by FROM directus_activity AS a
    WHERE a.collection = 'directus_webhooks' AND a.item = w.id::text AND a.action IN ('create', 'update') ORDER BY a.id DESC LIMIT 1
), 0)
FROM directus_webhooks AS w;

CREATE INDEX directus_webhook_keys_owner ON directus_webhook_keys (owner);

-- Webhooks are part of what processes keep of a database in memory, with what their owners may read.

CREATE TRIGGER directus_touched AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON directus_webhooks
    FOR EACH STATEMENT EXECUTE FUNCTION directus_touched('schema');

CREATE FUNCTION directus_owner_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM directus_webhook_keys WHERE owner = OLD.id) THEN
        PERFORM directus_touch('schema');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER directus_owner_changed AFTER UPDATE OF role, status ON directus_users
    FOR EACH ROW WHEN (OLD.role IS DISTINCT FROM NEW.role OR OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION directus_owner_changed();
CREATE TRIGGER directus_owner_deleted AFTER DELETE ON directus_users
    FOR EACH ROW EXECUTE FUNCTION directus_owner_changed();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION directus_owner_changed() SET search_path = %%I, pg_temp', current_schema());
END
$$;
