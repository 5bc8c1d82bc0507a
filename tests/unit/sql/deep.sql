-- fields=title,tags.tag.name&deep[tags][limit]=3&deep[tags][sort]=-id&deep[tags][filter][tag.name][neq]=x

-- items
SELECT "t0"."title", "t0"."id"
 FROM "articles" AS "t0"
 WHERE "t0"."status" IS DISTINCT FROM %s
 ORDER BY "t0"."id"
 LIMIT %s OFFSET %s

-- items.tags
SELECT "j1"."name", "j1"."id", "t0"."article"
 FROM "articles_tags" AS "t0"
 LEFT JOIN "tags" AS "j1" ON "j1"."id" = "t0"."tag" AND TRUE
 WHERE "t0"."id" IN (SELECT key
 FROM (SELECT "t0"."id" AS key, row_number() OVER (PARTITION BY "t0"."article"
 ORDER BY "t0"."id" DESC) AS place
 FROM "articles_tags" AS "t0"
 WHERE ("t0"."article" = ANY(%s::bigint[]) AND EXISTS (SELECT 1
 FROM "tags" AS "t1"
 WHERE "t1"."id" = "t0"."tag" AND (lower("t1"."name") IS DISTINCT FROM lower(%s) AND "t1"."name" IS NOT NULL)))) AS ranked
 WHERE place > %s AND place <= %s)
 ORDER BY "t0"."article", "t0"."id" DESC
 LIMIT %s
