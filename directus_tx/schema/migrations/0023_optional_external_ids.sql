-- Clients see that users and roles need not have an external id: those of a new project have none. SCIM identifies them by their keys then.

DROP FUNCTION directus_has_external_id() CASCADE;

UPDATE directus_roles SET external_id = NULL WHERE NOT EXISTS (SELECT FROM directus_users);
