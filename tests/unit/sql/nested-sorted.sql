-- fields=title,author.name&sort=-views

-- items
SELECT "t0"."title", "j1"."name", "j1"."id"
 FROM (SELECT "t0"."title", "t0"."author", "t0"."views" AS "$row0", "t0"."id" AS "$row1"
 FROM "articles" AS "t0"
 WHERE "t0"."status" IS DISTINCT FROM %s
 ORDER BY "t0"."views" DESC NULLS LAST, "t0"."id"
 LIMIT %s OFFSET %s) AS "t0"
 LEFT JOIN "authors" AS "j1" ON "j1"."id" = "t0"."author" AND TRUE
 ORDER BY "t0"."$row0" DESC NULLS LAST, "t0"."$row1"
