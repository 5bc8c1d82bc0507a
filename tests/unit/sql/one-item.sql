-- fields=*,author.name&sort=-title

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "j1"."name", "j1"."id", "j2"."id", "t0"."xmin", "t0"."id"
 FROM "articles" AS "t0"
 LEFT JOIN "authors" AS "j1" ON "j1"."id" = "t0"."author" AND TRUE
 LEFT JOIN "directus_users" AS "j2" ON "j2"."id" = "t0"."owner" AND TRUE
 WHERE ("t0"."id" = ANY(%s::bigint[]) AND "t0"."status" IS DISTINCT FROM %s)
 LIMIT 1

-- items.tags
SELECT "t0"."article", "t0"."article"
 FROM "articles_tags" AS "t0"
 WHERE "t0"."article" = ANY(%s::bigint[])
 ORDER BY "t0"."article", "t0"."id"
 LIMIT %s
