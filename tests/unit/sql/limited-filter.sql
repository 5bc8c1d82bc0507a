-- filter[views][gt]=1&filter[title][contains]=x&filter[title][logical]=or&q=ada

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author", "t0"."$shown0"
 FROM (SELECT "t"."status" = ANY(%s) AS "$shown0", "t"."id", "t"."status", "t"."title", CASE WHEN "t"."status" = ANY(%s) THEN "t"."views" END AS "views", "t"."published_on", "t"."owner", "t"."author"
 FROM "articles" AS t
 WHERE ("t"."status" = ANY(%s) OR ("t"."status" = ANY(%s) AND "t"."owner" = %s))) AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND (lower("t0"."id"::text) LIKE lower(%s) OR lower("t0"."title") LIKE lower(%s) OR lower("t0"."views"::text) LIKE lower(%s)) AND ("t0"."views" > %s OR lower("t0"."title") LIKE lower(%s)))
 ORDER BY "t0"."id"
 LIMIT %s OFFSET %s
