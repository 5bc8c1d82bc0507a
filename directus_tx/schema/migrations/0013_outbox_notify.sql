-- Processes that deliver messages look for those that they have written themselves after the commit. NOTIFY is for messages of other programs,
-- such as the command: transactions that notify wait for each other while they are committed.

DROP TRIGGER directus_outbox_written ON directus_outbox;
CREATE TRIGGER directus_outbox_written AFTER INSERT ON directus_outbox
    FOR EACH STATEMENT WHEN (current_setting('directus.delivers', TRUE) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION directus_outbox_written();
