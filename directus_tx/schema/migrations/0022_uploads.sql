-- Uploads by the tus protocol. id: the SHA-256 of the name in the URL. size: NULL until the client tells it. offset: the bytes that are
-- durable. writer: the request that may add bytes; the newest one. completing_until: until then, no other request may. file: the file that
-- was made of the upload. ended: the upload is being removed.
CREATE TABLE directus_uploads (
    id varchar(64) PRIMARY KEY,
    "user" bigint,
    metadata text NOT NULL,
    size bigint,
    "offset" bigint NOT NULL,
    writer varchar(32),
    completing_until timestamptz,
    file bigint,
    ended boolean NOT NULL DEFAULT false,
    created_on timestamp(0) NOT NULL,
    expires_on timestamp(0) NOT NULL
);
CREATE INDEX directus_uploads_user ON directus_uploads ("user");
CREATE INDEX directus_uploads_expires_on ON directus_uploads (expires_on);

-- The bytes of unfinished uploads: the storage has those from start on, as many as size, under a name.
CREATE TABLE directus_upload_parts (
    upload varchar(64) NOT NULL REFERENCES directus_uploads ON DELETE CASCADE,
    start bigint NOT NULL,
    size bigint NOT NULL,
    name varchar(255) NOT NULL,
    PRIMARY KEY (upload, start)
);
CREATE UNIQUE INDEX directus_upload_parts_name ON directus_upload_parts (name);
