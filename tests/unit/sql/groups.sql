-- groups=author&sort=-id

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author"
 FROM "articles" AS "t0"
 WHERE "t0"."id" IN (SELECT DISTINCT ON ("t0"."author") "t0"."id"
 FROM "articles" AS "t0"
 WHERE "t0"."status" IS DISTINCT FROM %s
 ORDER BY "t0"."author", "t0"."id")
 ORDER BY "t0"."id" DESC
 LIMIT %s OFFSET %s
