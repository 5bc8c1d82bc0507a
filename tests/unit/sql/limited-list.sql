-- sort=-views&meta=*

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author", "t0"."$shown0"
 FROM (SELECT "t"."status" = ANY(%s) AS "$shown0", "t"."id", "t"."status", "t"."title", CASE WHEN "t"."status" = ANY(%s) THEN "t"."views" END AS "views", "t"."published_on", "t"."owner", "t"."author"
 FROM "articles" AS t
 WHERE ("t"."status" = ANY(%s) OR ("t"."status" = ANY(%s) AND "t"."owner" = %s))) AS "t0"
 WHERE "t0"."status" IS DISTINCT FROM %s
 ORDER BY "t0"."views" DESC NULLS LAST, "t0"."id"
 LIMIT %s OFFSET %s

-- filter_count
SELECT count(*)
 FROM (SELECT "t"."status" = ANY(%s) AS "$shown0", "t"."id", "t"."status", "t"."title", CASE WHEN "t"."status" = ANY(%s) THEN "t"."views" END AS "views", "t"."published_on", "t"."owner", "t"."author"
 FROM "articles" AS t
 WHERE ("t"."status" = ANY(%s) OR ("t"."status" = ANY(%s) AND "t"."owner" = %s))) AS "t0"
 WHERE "t0"."status" IS DISTINCT FROM %s

-- total_count
SELECT count(*)
 FROM (SELECT "t"."status" = ANY(%s) AS "$shown0", "t"."id", "t"."status", "t"."title", CASE WHEN "t"."status" = ANY(%s) THEN "t"."views" END AS "views", "t"."published_on", "t"."owner", "t"."author"
 FROM "articles" AS t
 WHERE ("t"."status" = ANY(%s) OR ("t"."status" = ANY(%s) AND "t"."owner" = %s))) AS "t0"
 WHERE "t0"."status" IS DISTINCT FROM %s

-- status_count
SELECT "t0"."status", count(*), count(*) FILTER (WHERE "t0"."status" IS DISTINCT FROM %s)
 FROM (SELECT "t"."status" = ANY(%s) AS "$shown0", "t"."id", "t"."status", "t"."title", CASE WHEN "t"."status" = ANY(%s) THEN "t"."views" END AS "views", "t"."published_on", "t"."owner", "t"."author"
 FROM "articles" AS t
 WHERE ("t"."status" = ANY(%s) OR ("t"."status" = ANY(%s) AND "t"."owner" = %s))) AS "t0"
 WHERE TRUE
 GROUP BY 1
 ORDER BY 1
