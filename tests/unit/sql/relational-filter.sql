-- filter[author.name]=ada&filter[tags.tag.name][contains]=x&filter[author][contains]=ada&filter[tags][has]=2

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author"
 FROM "articles" AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND (EXISTS (SELECT 1
 FROM "authors" AS "t1"
 WHERE "t1"."id" = "t0"."author" AND lower("t1"."name") = lower(%s)) AND EXISTS (SELECT 1
 FROM "articles_tags" AS "t2"
 WHERE "t2"."article" = "t0"."id" AND EXISTS (SELECT 1
 FROM "tags" AS "t3"
 WHERE "t3"."id" = "t2"."tag" AND lower("t3"."name") LIKE lower(%s))) AND EXISTS (SELECT 1
 FROM "authors" AS "t4"
 WHERE "t4"."id" = "t0"."author" AND (lower("t4"."id"::text) LIKE lower(%s) OR lower("t4"."name") LIKE lower(%s))) AND (SELECT count(*)
 FROM "articles_tags" AS "t5"
 WHERE "t5"."article" = "t0"."id") >= %s))
 ORDER BY "t0"."id"
 LIMIT %s OFFSET %s
