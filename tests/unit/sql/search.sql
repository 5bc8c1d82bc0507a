-- q=ada&status=published,draft

-- items
SELECT "t0"."id", "t0"."status", "t0"."title", "t0"."views", "t0"."published_on", "t0"."owner", "t0"."author"
 FROM "articles" AS "t0"
 WHERE (lower("t0"."status") = ANY(%s::text[]) AND (lower("t0"."id"::text) LIKE lower(%s) OR lower("t0"."title") LIKE lower(%s) OR lower("t0"."views"::text) LIKE lower(%s)))
 ORDER BY "t0"."id"
 LIMIT %s OFFSET %s
