-- filter[title]=a&filter[views]=1&filter[views][logical]=or&filter[views][gt]=5

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author"
 FROM "articles" AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND (lower("t0"."title") = lower(%s) OR "t0"."views" > %s))
 ORDER BY "t0"."id"
 LIMIT %s OFFSET %s
