-- filter[title][contains]=a&filter[title][nin]=b,c&filter[views][between]=1,9&filter[published_on][lt]=now&filter[status][empty]

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author"
 FROM "articles" AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND (lower("t0"."title") LIKE lower(%s) AND (lower("t0"."title") <> ALL(%s::text[]) AND "t0"."title" IS NOT NULL) AND "t0"."views" BETWEEN %s AND %s AND "t0"."published_on" < %s AND ("t0"."status" IS NULL OR "t0"."status" = '')))
 ORDER BY "t0"."id"
 LIMIT %s OFFSET %s
