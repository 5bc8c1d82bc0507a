-- Signing in asks which kinds of password hashes there are: their beginnings, algorithm and costs.

CREATE INDEX directus_users_password_kind ON directus_users
    (substring(password from '^(\$2[aby]\$\d\d|\$argon2(?:id|i|d)(?:\$v=\d+)?\$m=[1-9]\d*,t=[1-9]\d*,p=[1-9]\d*)'));
