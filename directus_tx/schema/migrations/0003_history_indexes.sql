-- The history of one item is found by what filters compare, text without case; retention walks a collection's records by age.

DROP INDEX directus_activity_item;
CREATE INDEX directus_activity_item ON directus_activity (lower(collection), lower(item), id);
CREATE INDEX directus_activity_collection ON directus_activity (collection, id);

DROP INDEX directus_revisions_item;
CREATE INDEX directus_revisions_item ON directus_revisions (lower(collection), lower(item), id);
DROP INDEX directus_revisions_parent;
CREATE INDEX directus_revisions_parent ON directus_revisions (lower(parent_collection), lower(parent_item), id);
