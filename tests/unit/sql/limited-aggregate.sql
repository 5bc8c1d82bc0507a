-- aggregate[sum]=views&groupby=status

SELECT min("t0"."status"), sum("t0"."views")
 FROM (SELECT "t"."status" = ANY(%s) AS "$shown0", "t"."id", "t"."status", "t"."title", CASE WHEN "t"."status" = ANY(%s) THEN "t"."views" END AS "views", "t"."published_on", "t"."owner", "t"."author"
 FROM "articles" AS t
 WHERE ("t"."status" = ANY(%s) OR ("t"."status" = ANY(%s) AND "t"."owner" = %s))) AS "t0"
 WHERE "t0"."status" IS DISTINCT FROM %s
 GROUP BY lower("t0"."status")
 ORDER BY lower("t0"."status") ASC NULLS LAST
 LIMIT %s OFFSET %s
