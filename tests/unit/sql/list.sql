-- limit=20&offset=40&sort=-published_on,title

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author"
 FROM "articles" AS "t0"
 WHERE "t0"."status" IS DISTINCT FROM %s
 ORDER BY "t0"."published_on" DESC NULLS LAST, lower("t0"."title") NULLS LAST, "t0"."id"
 LIMIT %s OFFSET %s
