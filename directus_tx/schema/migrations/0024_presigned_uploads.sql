-- Files that clients send to the storage themselves. name: that in the storage to which the client may send bytes; no file has its content
-- there. expires_on: until then the upload can be completed; then it is removed, with what is under the name. file: the file that was made.
CREATE TABLE directus_presigned_uploads (
    id varchar(32) PRIMARY KEY,
    "user" bigint NOT NULL,
    name varchar(255) NOT NULL,
    filename varchar(255) NOT NULL,
    filesize bigint NOT NULL,
    sha256 varchar(64),
    created_on timestamptz NOT NULL,
    expires_on timestamptz NOT NULL,
    file bigint
);
CREATE UNIQUE INDEX directus_presigned_uploads_name ON directus_presigned_uploads (name);
CREATE INDEX directus_presigned_uploads_user ON directus_presigned_uploads ("user") WHERE file IS NULL;
CREATE INDEX directus_presigned_uploads_expires_on ON directus_presigned_uploads (expires_on);
