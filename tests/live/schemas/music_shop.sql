-- A music shop as converted from another database system: quoted names in CamelCase, keys without defaults, awkward names.
CREATE TYPE ltree_like;
CREATE FUNCTION ltree_like_in(cstring) RETURNS ltree_like LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION ltree_like_out(ltree_like) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE ltree_like (INPUT = ltree_like_in, OUTPUT = ltree_like_out, LIKE = text);
CREATE TABLE "Artist" ("ArtistId" integer NOT NULL, "Name" varchar(120), CONSTRAINT "PK_Artist" PRIMARY KEY ("ArtistId"));
CREATE TABLE "Album" (
    "AlbumId" integer NOT NULL, "Title" varchar(160) NOT NULL, "ArtistId" integer NOT NULL, CONSTRAINT "PK_Album" PRIMARY KEY ("AlbumId")
);
CREATE TABLE "Genre" ("GenreId" integer PRIMARY KEY, "Name" varchar(120));
CREATE TABLE "MediaType" ("MediaTypeId" integer PRIMARY KEY, "Name" varchar(120));
CREATE TABLE "Track" (
    "TrackId" integer NOT NULL, "Name" varchar(200) NOT NULL, "AlbumId" integer, "MediaTypeId" integer NOT NULL, "GenreId" integer,
    "Composer" varchar(220), "Milliseconds" integer NOT NULL, "Bytes" integer, "UnitPrice" numeric(10,2) NOT NULL,
    CONSTRAINT "PK_Track" PRIMARY KEY ("TrackId")
);
CREATE TABLE "Employee" (
    "EmployeeId" integer PRIMARY KEY, "LastName" varchar(20) NOT NULL, "Title" varchar(30), "ReportsTo" integer,
    "BirthDate" timestamp, "HireDate" timestamp, "PostalCode" varchar(10), "Email" varchar(60)
);
CREATE TABLE "Customer" (
    "CustomerId" integer PRIMARY KEY, "FirstName" varchar(40) NOT NULL, "Company" varchar(80), "Country" varchar(40),
    "Fax" varchar(24), "Email" varchar(60) NOT NULL, "SupportRepId" integer
);
CREATE TABLE "Invoice" (
    "InvoiceId" integer PRIMARY KEY, "CustomerId" integer NOT NULL, "InvoiceDate" timestamp NOT NULL, "Total" numeric(10,2) NOT NULL
);
CREATE TABLE "InvoiceLine" (
    "InvoiceLineId" integer PRIMARY KEY, "InvoiceId" integer NOT NULL, "TrackId" integer NOT NULL, "UnitPrice" numeric(10,2) NOT NULL,
    "Quantity" integer NOT NULL
);
CREATE TABLE "Playlist" ("PlaylistId" integer PRIMARY KEY, "Name" varchar(120));
CREATE TABLE "PlaylistTrack" (
    "PlaylistId" integer NOT NULL, "TrackId" integer NOT NULL, CONSTRAINT "PK_PlaylistTrack" PRIMARY KEY ("PlaylistId", "TrackId")
);
CREATE TABLE "order" (
    "order" integer PRIMARY KEY, "limit" integer, "offset" smallint, "fields" text, "sort" integer, "filter" varchar(20), "status" varchar(10),
    "meta" jsonb, "q" text, "groups" text, "export" boolean, "data" json, "id" uuid, "aggregate" real, "lang" char(2), "single" date,
    "_and" text, "or" text, "Order" text, "ORDER" text, "count" bigint, "*" integer, "-" text, "$a" text, "a.b" text, "a,b" text,
    "a[b]" text, "a b" text, "collection" text, "field" text, "owner" integer, "created_on" date, "modified_by" text, "ctid " text
);
CREATE TABLE "Verkäufe je Woche" ("Schlüssel" integer PRIMARY KEY, "Straße" text, "Größe in m²" numeric(6,3), "日付" date);
CREATE TABLE "dotted.name" ("the.key" varchar(30) PRIMARY KEY, "a.value" text);
CREATE TABLE "a/b?c=d&e#f%20g" ("k" varchar(12) PRIMARY KEY, "x+y" integer, "100%" numeric, "'quoted'" text, "back\slash" text);
CREATE TABLE a_name_of_sixty_three_bytes_which_is_all_that_postgresql_takes_ (
    a_key_of_sixty_three_bytes_which_is_all_that_postgresql_takes_ integer PRIMARY KEY,
    a_column_of_sixty_three_bytes_which_is_all_postgresql_takes____ text
);
CREATE TABLE "Empty" ("Key" integer PRIMARY KEY, "Value" text);
CREATE TABLE "NoColumns" ();
CREATE TABLE "NoKey" ("Line" text, "At" timestamptz(0));
CREATE TABLE "Keys" ("Code" varchar(20) PRIMARY KEY, "Note" text);
CREATE TABLE dropped (gone integer, id integer PRIMARY KEY, also_gone text, kept text NOT NULL DEFAULT 'it''s', sum integer);
ALTER TABLE dropped DROP COLUMN gone;
ALTER TABLE dropped DROP COLUMN also_gone;
CREATE TABLE "Types" (
    "Id" bigint PRIMARY KEY, "Bit" bit(1), "Flags" bit varying(8), "Money" money, "Char" char(3), "Xml" xml,
    "Offset" timestamptz(3), "Clock" time(0), "Zone" timetz, "Span" interval, "Double" double precision, "Single" real,
    "Guid" uuid, "Binary" bytea, "Address" inet, "Hidden" "char", "Path" ltree_like
);
DO $$ BEGIN EXECUTE (SELECT format('CREATE TABLE "Wide" ("Id" integer PRIMARY KEY, %s)', string_agg(
    format('"Column%s" %s', lpad(n::text, 3, '0'), CASE n % 2 WHEN 0 THEN 'integer' ELSE 'varchar(20)' END), ', ' ORDER BY n))
    FROM generate_series(1, 100) n); END $$;
CREATE SCHEMA archive;
CREATE TABLE archive."Invoice" ("InvoiceId" integer PRIMARY KEY, "Total" numeric(10,2), "At" timestamp);
CREATE TABLE archive.plain (id serial PRIMARY KEY, artist integer REFERENCES public."Artist" ("ArtistId"));
CREATE VIEW "InvoiceTotals" AS SELECT "CustomerId", sum("Total") AS "Sum", count(*) AS "Count" FROM "Invoice" GROUP BY 1;
INSERT INTO "Artist" SELECT n, CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN 'Ärtist ' || n ELSE 'artist, "' || n || '"' END FROM generate_series(1, 60) n;
INSERT INTO "Album" SELECT n, 'Album [' || n || ']', 1 + n % 60 FROM generate_series(1, 90) n;
INSERT INTO "Genre" SELECT n, 'Genre ' || n FROM generate_series(0, 12) n;
INSERT INTO "MediaType" SELECT n, 'Media ' || n FROM generate_series(1, 5) n;
INSERT INTO "Track"
SELECT n, 'Track ' || n, nullif(n % 90, 0), 1 + n % 5, n % 13, CASE n % 2 WHEN 0 THEN '' END, n * 1000, n * 7, 0.99 + n % 2
FROM generate_series(1, 150) n;
INSERT INTO "Employee"
SELECT n, 'Name' || n, 'Title', nullif(n / 2, 0), timestamp '1962-02-18' + n * interval '1 day', '2002-08-14', '0' || n, NULL
FROM generate_series(1, 8) n;
INSERT INTO "Customer" SELECT n, 'Luís ' || n, NULL, 'Land', '+1 ' || n, 'l' || n || '@example.com', 1 + n % 8 FROM generate_series(1, 59) n;
INSERT INTO "Invoice" SELECT n, 1 + n % 59, timestamp '2009-01-01' + n * interval '1 day', n / 3.0 FROM generate_series(1, 100) n;
INSERT INTO "InvoiceLine" SELECT n, 1 + n % 100, 1 + n % 150, 0.99, 1 FROM generate_series(1, 150) n;
INSERT INTO "Playlist" SELECT n, 'List ' || n FROM generate_series(1, 18) n;
INSERT INTO "PlaylistTrack" SELECT 1 + n % 18, n FROM generate_series(1, 150) n;
INSERT INTO "order" ("order", "limit", "offset", "fields", "sort", "filter", "status", "meta", "q", "export", "data", "id", "aggregate", "lang",
    "single", "count", "*", "-", "a.b", "owner", "created_on")
SELECT n, n % 10, n % 3, '*.*', -n, 'eq', (ARRAY['draft', 'published', 'deleted', NULL])[1 + n % 4], '{"a": [1, null]}', 'q', n % 2 = 0,
    '{"b":  1}', md5(n::text)::uuid, n / 7.0, 'de', date '2020-01-01' + n, n * 10000000000, n, '-', 'x.y', n, '2020-01-01'
FROM generate_series(1, 30) n;
INSERT INTO "Verkäufe je Woche" SELECT n, 'Straße ' || n, n / 7.0, date '2020-02-01' + n FROM generate_series(1, 20) n;
INSERT INTO "dotted.name" SELECT 'key.' || n, 'v' FROM generate_series(1, 5) n;
INSERT INTO "a/b?c=d&e#f%20g" SELECT 'k/' || n || '?%', n, n / 8.0, '''', E'\\\\' FROM generate_series(1, 5) n;
INSERT INTO a_name_of_sixty_three_bytes_which_is_all_that_postgresql_takes_ SELECT n, repeat('x', n) FROM generate_series(1, 5) n;
INSERT INTO "NoKey" SELECT 'line ' || n, timestamptz '2020-01-01 00:00+00' FROM generate_series(1, 12) n;
INSERT INTO "Keys" VALUES ('a', ''), ('A', NULL), ('a,b', 'x'), (' b', 'x'), ('c ', 'x'), ('.', 'x'), ('..', 'x'), ('é', 'x'), ('1', 'x'),
    ('01', 'x'), ('a b+c', 'x');
INSERT INTO dropped SELECT n, 'kept ' || n, n FROM generate_series(1, 10) n;
INSERT INTO "Types" ("Id", "Bit", "Flags", "Money", "Char", "Xml", "Offset", "Clock", "Zone", "Span", "Double", "Single", "Guid", "Binary",
    "Address", "Hidden", "Path")
SELECT 9007199254740993 + n, '1', B'101', n * 1.5, 'ab', NULL, timestamptz '2020-01-01 10:00:00.123+00', '10:00',
    '10:00+02', n * interval '1 day 1 second', n / 3.0, n / 3.0, md5(n::text)::uuid, '\x00ff', '10.0.0.1', 'x', 'a.b'
FROM generate_series(1, 6) n;
INSERT INTO "Wide" ("Id", "Column001", "Column100") SELECT n, 'x' || n, n FROM generate_series(1, 5) n;
INSERT INTO archive."Invoice" SELECT n, n / 3.0, timestamp '2019-01-01 00:00:00.5' FROM generate_series(1, 10) n;
INSERT INTO archive.plain (artist) VALUES (1), (2);
ALTER TABLE "Album" ADD CONSTRAINT "FK_AlbumArtistId" FOREIGN KEY ("ArtistId") REFERENCES "Artist" ON DELETE NO ACTION ON UPDATE NO ACTION;
ALTER TABLE "Track" ADD FOREIGN KEY ("AlbumId") REFERENCES "Album";
ALTER TABLE "Track" ADD FOREIGN KEY ("GenreId") REFERENCES "Genre";
ALTER TABLE "Track" ADD FOREIGN KEY ("MediaTypeId") REFERENCES "MediaType";
ALTER TABLE "Employee" ADD FOREIGN KEY ("ReportsTo") REFERENCES "Employee";
ALTER TABLE "Customer" ADD FOREIGN KEY ("SupportRepId") REFERENCES "Employee";
ALTER TABLE "Invoice" ADD FOREIGN KEY ("CustomerId") REFERENCES "Customer";
ALTER TABLE "InvoiceLine" ADD FOREIGN KEY ("InvoiceId") REFERENCES "Invoice";
ALTER TABLE "InvoiceLine" ADD FOREIGN KEY ("TrackId") REFERENCES "Track";
ALTER TABLE "PlaylistTrack" ADD FOREIGN KEY ("PlaylistId") REFERENCES "Playlist";
ALTER TABLE "PlaylistTrack" ADD FOREIGN KEY ("TrackId") REFERENCES "Track";
CREATE INDEX "IFK_Artist_Album" ON "Album" ("ArtistId");
