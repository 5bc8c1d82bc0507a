-- NOTIFY tells the processes of new messages, on a channel of its own (`db.pool.OUTBOX`), on which one connection of each process listens.

CREATE FUNCTION directus_wake_outbox() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('directus-outbox' || CASE current_schema() WHEN 'public' THEN '' ELSE ':' || current_schema() END, '');
END
$$;

CREATE FUNCTION directus_outbox_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM directus_wake_outbox();
    RETURN NULL;
END
$$;

CREATE TRIGGER directus_outbox_written AFTER INSERT ON directus_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION directus_outbox_written();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION directus_wake_outbox() SET search_path = %%I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION directus_outbox_written() SET search_path = %%I, pg_temp', current_schema());
END
$$;
