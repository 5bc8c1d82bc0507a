-- The values of token and 2fa_secret are sealed with the secret key of the project, which the server does when it opens the project.
-- token_fingerprint: the keyed hash of the token, by which it is found; NULL: the token is not sealed yet, or another program has written it.

DROP TRIGGER directus_touched ON directus_users;

ALTER TABLE directus_users ADD COLUMN token_fingerprint text;

DO $$
BEGIN
    ALTER TABLE directus_users ALTER COLUMN token TYPE text, ALTER COLUMN "2fa_secret" TYPE text;
EXCEPTION WHEN feature_not_supported THEN
    -- A view of another program has the columns. It keeps those that were there, without the secrets.
    ALTER TABLE directus_users RENAME COLUMN token TO former_token;
    ALTER TABLE directus_users RENAME COLUMN "2fa_secret" TO former_2fa_secret;
    ALTER TABLE directus_users ADD COLUMN token text, ADD COLUMN "2fa_secret" text;
    UPDATE directus_users
    SET token = former_token, "2fa_secret" = former_2fa_secret, former_token = NULL, former_2fa_secret = NULL
    WHERE former_token IS NOT NULL OR former_2fa_secret IS NOT NULL;
END
$$;

DROP INDEX directus_users_token;
CREATE UNIQUE INDEX directus_users_token ON directus_users (token_fingerprint);
CREATE UNIQUE INDEX directus_users_unsealed_token ON directus_users (token) WHERE token_fingerprint IS NULL AND token IS NOT NULL;
CREATE INDEX directus_users_unsealed_2fa_secret ON directus_users (id) WHERE "2fa_secret" <> '' AND "2fa_secret" NOT LIKE 'v1.%%';

CREATE TRIGGER directus_touched AFTER INSERT OR DELETE OR TRUNCATE
    OR UPDATE OF id, status, role, email, password, token, "2fa_secret" ON directus_users
    FOR EACH STATEMENT EXECUTE FUNCTION directus_touched('accounts');

-- A program that writes a token, or none, does not know of the fingerprint, by which the former token would stay valid.

CREATE FUNCTION directus_token_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.token_fingerprint = NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER directus_token_written BEFORE UPDATE OF token ON directus_users
    FOR EACH ROW WHEN (NEW.token_fingerprint IS NOT NULL AND (NEW.token IS NULL OR NEW.token NOT LIKE 'v1.%%'))
    EXECUTE FUNCTION directus_token_written();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION directus_token_written() SET search_path = %%I, pg_temp', current_schema());
END
$$;
