-- What SCIM keeps of users and roles beside their fields. external_id: the id that the client of SCIM gives the resource; NULL: none. It need
-- not be that of the user, which does not change. attributes: those that the server only keeps.

CREATE TABLE directus_scim_users (
    "user" bigint PRIMARY KEY REFERENCES directus_users ON DELETE CASCADE,
    external_id varchar(255),
    attributes jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX directus_scim_users_external_id ON directus_scim_users (lower(external_id));

CREATE TABLE directus_scim_groups (
    role bigint PRIMARY KEY REFERENCES directus_roles ON DELETE CASCADE,
    external_id varchar(255),
    attributes jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX directus_scim_groups_external_id ON directus_scim_groups (lower(external_id));

-- SCIM identifies users and roles by their external ids, so all have one, also those that other programs make.

UPDATE directus_users SET external_id = gen_random_uuid()::text WHERE external_id IS NULL OR external_id = '';
UPDATE directus_roles SET external_id = gen_random_uuid()::text WHERE external_id IS NULL OR external_id = '';

CREATE FUNCTION directus_has_external_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.external_id <> '' THEN
        NEW.external_id = OLD.external_id;
    ELSE
        NEW.external_id = gen_random_uuid()::text;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER directus_has_external_id BEFORE INSERT OR UPDATE OF external_id ON directus_users
    FOR EACH ROW WHEN (NEW.external_id IS NULL OR NEW.external_id = '') EXECUTE FUNCTION directus_has_external_id();
CREATE TRIGGER directus_has_external_id BEFORE INSERT OR UPDATE OF external_id ON directus_roles
    FOR EACH ROW WHEN (NEW.external_id IS NULL OR NEW.external_id = '') EXECUTE FUNCTION directus_has_external_id();
