-- fields=title,author.name,tags.tag.*

-- items
SELECT "t0"."title", "j1"."name", "j1"."id", "t0"."id"
 FROM "articles" AS "t0"
 LEFT JOIN "authors" AS "j1" ON "j1"."id" = "t0"."author" AND TRUE
 WHERE "t0"."status" IS DISTINCT FROM %s
 ORDER BY "t0"."id"
 LIMIT %s OFFSET %s

-- items.tags
SELECT "j1"."id", "j1"."name", "j1"."sort", "t0"."article"
 FROM "articles_tags" AS "t0"
 LEFT JOIN "tags" AS "j1" ON "j1"."id" = "t0"."tag" AND TRUE
 WHERE "t0"."article" = ANY(%s::bigint[])
 ORDER BY "t0"."article", "t0"."id"
 LIMIT %s
