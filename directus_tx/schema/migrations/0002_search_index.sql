-- Whether a collection has indexes of trigrams over its searched fields. No field of the API's catalogue: what it takes depends on
-- the database server.

ALTER TABLE directus_collections ADD COLUMN search_index boolean NOT NULL DEFAULT FALSE;
