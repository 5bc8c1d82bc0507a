-- meta=*&filter[views][gte]=10

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author"
 FROM "articles" AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND "t0"."views" >= %s)
 ORDER BY "t0"."id"
 LIMIT %s OFFSET %s

-- filter_count
SELECT count(*)
 FROM "articles" AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND "t0"."views" >= %s)

-- total_count
SELECT count(*)
 FROM "articles" AS "t0"
 WHERE "t0"."status" IS DISTINCT FROM %s

-- status_count
SELECT "t0"."status", count(*), count(*) FILTER (WHERE "t0"."status" IS DISTINCT FROM %s)
 FROM "articles" AS "t0"
 WHERE TRUE
 GROUP BY 1
 ORDER BY 1
