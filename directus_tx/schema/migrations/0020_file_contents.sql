-- Where the storage keeps the contents of files. A file gets new content by a change of its row here, in the transaction that changes the
-- file; the former content is deleted after the commit. A file without a row has its content under its name on disk.
CREATE TABLE directus_file_contents (
    file bigint PRIMARY KEY,
    name varchar(255) NOT NULL,
    filesize bigint NOT NULL,
    sha256 varchar(64) NOT NULL,
    stored_on timestamp(0) NOT NULL
);
CREATE UNIQUE INDEX directus_file_contents_name ON directus_file_contents (name);

-- Files that the public uploads have no owner.
ALTER TABLE directus_files ALTER COLUMN uploaded_by DROP NOT NULL;
