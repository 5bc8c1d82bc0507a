-- The indexes that are declared through the API. name: the name of the index in the schema public. field: the field whose "index" declares it;
-- NULL for one of the "indexes" of the collection. definition: JSON with "fields", "unique" and "where". failed: it is not built again
-- until it is declared again; error: the reason, as text for administrators. Whether it is built is to be seen in pg_index.

CREATE TABLE directus_indexes (
    name varchar(64) PRIMARY KEY,
    collection varchar(64) NOT NULL,
    field varchar(64),
    definition text NOT NULL,
    failed boolean NOT NULL DEFAULT FALSE,
    error text
);
