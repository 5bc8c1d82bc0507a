-- fields=*,author.name&sort=-title

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "j1"."name", "j1"."id", "j2"."id", "t0"."$row2"
 FROM (SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."author", "t0"."owner", lower("t0"."title") AS "$row0", "t0"."id" AS "$row1", "t0"."id" AS "$row2"
 FROM "articles" AS "t0"
 WHERE ("t0"."id" = ANY(%s::bigint[]) AND "t0"."status" IS DISTINCT FROM %s)
 ORDER BY lower("t0"."title") DESC NULLS LAST, "t0"."id"
 LIMIT %s OFFSET %s) AS "t0"
 LEFT JOIN "authors" AS "j1" ON "j1"."id" = "t0"."author" AND TRUE
 LEFT JOIN "directus_users" AS "j2" ON "j2"."id" = "t0"."owner" AND TRUE
 ORDER BY "t0"."$row0" DESC NULLS LAST, "t0"."$row1"

-- items.tags
SELECT "t0"."article", "t0"."article"
 FROM "articles_tags" AS "t0"
 WHERE "t0"."article" = ANY(%s::bigint[])
 ORDER BY "t0"."article", "t0"."id"
 LIMIT %s
