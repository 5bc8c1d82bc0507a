-- sort=-published_on,title

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author", "t0"."$row3", "t0"."$row4", "t0"."$row5"
 FROM (WITH "$part0" AS MATERIALIZED (SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author", "t0"."published_on" AS "$row0", lower("t0"."title") AS "$row1", "t0"."id" AS "$row2", left(("t0"."published_on")::text, 1001) AS "$row3", left((lower("t0"."title"))::text, 1001) AS "$row4", left(("t0"."id")::text, 1001) AS "$row5"
 FROM "articles" AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND ("t0"."published_on" IS NULL AND lower("t0"."title") = %s AND "t0"."id" > %s))
 ORDER BY "t0"."id"
 LIMIT %s), "$part1" AS MATERIALIZED (SELECT *
 FROM (SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author", "t0"."published_on" AS "$row0", lower("t0"."title") AS "$row1", "t0"."id" AS "$row2", left(("t0"."published_on")::text, 1001) AS "$row3", left((lower("t0"."title"))::text, 1001) AS "$row4", left(("t0"."id")::text, 1001) AS "$row5"
 FROM "articles" AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND ("t0"."published_on" IS NULL AND lower("t0"."title") > %s))
 ORDER BY lower("t0"."title"), "t0"."id"
 LIMIT %s) AS t0
 LIMIT greatest(%s - ((SELECT count(*)
 FROM "$part0")), 0)), "$part2" AS MATERIALIZED (SELECT *
 FROM (SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author", "t0"."published_on" AS "$row0", lower("t0"."title") AS "$row1", "t0"."id" AS "$row2", left(("t0"."published_on")::text, 1001) AS "$row3", left((lower("t0"."title"))::text, 1001) AS "$row4", left(("t0"."id")::text, 1001) AS "$row5"
 FROM "articles" AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND ("t0"."published_on" IS NULL AND lower("t0"."title") IS NULL))
 ORDER BY "t0"."id"
 LIMIT %s) AS t0
 LIMIT greatest(%s - ((SELECT count(*)
 FROM "$part0") + (SELECT count(*)
 FROM "$part1")), 0)) SELECT *
 FROM "$part0" UNION ALL SELECT *
 FROM "$part1" UNION ALL SELECT *
 FROM "$part2") AS "t0"
 ORDER BY "t0"."$row0" DESC NULLS LAST, "t0"."$row1" NULLS LAST, "t0"."$row2"
