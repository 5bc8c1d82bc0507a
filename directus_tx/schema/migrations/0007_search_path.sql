-- Programs that write the system tables have a search_path of their own, and that of pg_restore is empty: the functions of the triggers find
-- the system tables in the schema that they are in. Projects in another schema than public notify a channel of their own, because
-- another project may use the database, too. The first schema of the search_path is that of the system tables.

CREATE OR REPLACE FUNCTION directus_touch(touched text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    newest bigint;
BEGIN
    UPDATE directus_versions SET version = version + 1 WHERE kind = touched RETURNING version INTO newest;
    PERFORM pg_notify(
        CASE current_schema() WHEN 'public' THEN 'directus' ELSE 'directus:' || current_schema() END, touched || ':' || newest
    );
END
$$;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION directus_touch(text) SET search_path = %%I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION directus_touched() SET search_path = %%I, pg_temp', current_schema());
END
$$;
