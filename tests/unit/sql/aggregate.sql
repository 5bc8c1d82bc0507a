-- aggregate[count]=*&aggregate[max]=views&groupby=author,title&filter[views][gt]=1&sort=-title

SELECT "t0"."author", min("t0"."title"), count(*), max("t0"."views")
 FROM "articles" AS "t0"
 WHERE ("t0"."status" IS DISTINCT FROM %s AND "t0"."views" > %s)
 GROUP BY "t0"."author", lower("t0"."title")
 ORDER BY lower("t0"."title") DESC NULLS LAST, "t0"."author" ASC NULLS LAST
 LIMIT %s OFFSET %s
