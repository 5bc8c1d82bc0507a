-- fields=title,views,author.name,tags.tag.*,owner.email

-- items
SELECT "t0"."title", "t0"."views", "t0"."author", "j1"."email", "j1"."id", "t0"."id", "t0"."$shown0"
 FROM (SELECT "t"."status" = ANY(%s) AS "$shown0", "t"."id", "t"."status", "t"."title", CASE WHEN "t"."status" = ANY(%s) THEN "t"."views" END AS "views", "t"."published_on", "t"."owner", "t"."author"
 FROM "articles" AS t
 WHERE ("t"."status" = ANY(%s) OR ("t"."status" = ANY(%s) AND "t"."owner" = %s))) AS "t0"
 LEFT JOIN (SELECT "t"."id" = %s AS "$shown0", "t"."id", "t"."email", CASE WHEN "t"."id" = %s THEN "t"."token" END AS "token", "t"."role"
 FROM "directus_users" AS t
 WHERE TRUE) AS "j1" ON "j1"."id" = "t0"."owner" AND TRUE
 WHERE "t0"."status" IS DISTINCT FROM %s
 ORDER BY "t0"."id"
 LIMIT %s OFFSET %s

-- items.tags
SELECT "t0"."tag", "t0"."article"
 FROM "articles_tags" AS "t0"
 WHERE "t0"."article" = ANY(%s::bigint[])
 ORDER BY "t0"."article", "t0"."id"
 LIMIT %s
