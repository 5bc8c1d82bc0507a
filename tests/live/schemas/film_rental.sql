-- A film rental: an enum, domains, arrays, a full text column kept by a trigger, partitions, rules and triggers on updates.
CREATE TYPE film_rating AS ENUM ('all', '6+', '12+', '16+', 'adults');
CREATE DOMAIN release_year AS integer CHECK (value BETWEEN 1888 AND 2155);
CREATE DOMAIN percentage AS numeric(5,2) CHECK (value >= 0 AND value <= 100);
CREATE FUNCTION stamp_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.last_update = timestamp '2021-01-01 00:00:00.123456'; RETURN NEW; END $$;
CREATE SEQUENCE performer_number START 1000;
CREATE TABLE country (
    country_id serial PRIMARY KEY, country varchar(50) NOT NULL, last_update timestamp NOT NULL DEFAULT now()
);
CREATE TABLE city (
    city_id serial PRIMARY KEY, city varchar(50) NOT NULL,
    country_id smallint NOT NULL REFERENCES country ON UPDATE CASCADE ON DELETE RESTRICT,
    last_update timestamp NOT NULL DEFAULT now()
);
CREATE TABLE address (
    address_id serial PRIMARY KEY, address varchar(50) NOT NULL, address2 varchar(50), district varchar(20) NOT NULL,
    city_id smallint NOT NULL REFERENCES city ON UPDATE CASCADE ON DELETE RESTRICT, postal_code varchar(10), phone varchar(20) NOT NULL,
    place point, last_update timestamp NOT NULL DEFAULT now()
);
CREATE TABLE language (
    language_id serial PRIMARY KEY, name char(20) NOT NULL UNIQUE, last_update timestamp NOT NULL DEFAULT now()
);
CREATE TABLE performer (
    performer_id integer DEFAULT nextval('performer_number') PRIMARY KEY, first_name varchar(45) NOT NULL,
    last_name varchar(45) NOT NULL, "Stage Name" text, last_update timestamp NOT NULL DEFAULT now()
);
CREATE TABLE film (
    film_id serial PRIMARY KEY, title varchar(255) NOT NULL, description text, release_year release_year,
    language_id smallint NOT NULL REFERENCES language ON UPDATE CASCADE ON DELETE RESTRICT,
    original_language_id smallint REFERENCES language ON UPDATE CASCADE ON DELETE RESTRICT,
    sequel_of integer REFERENCES film (film_id) ON DELETE SET NULL,
    rental_duration smallint NOT NULL DEFAULT 3, rental_rate numeric(4,2) NOT NULL DEFAULT 4.99, length smallint,
    replacement_cost numeric(5,2) NOT NULL DEFAULT 19.99, discount percentage DEFAULT 0, rating film_rating DEFAULT 'all',
    special_features text[], fulltext tsvector NOT NULL, revenue_projection numeric(7,2) GENERATED ALWAYS AS (rental_rate * 100) STORED,
    "User" name DEFAULT current_user, "primaryKey" text, "desc" boolean DEFAULT false, last_update timestamp NOT NULL DEFAULT now()
);
CREATE INDEX film_fulltext ON film USING gist (fulltext);
CREATE TRIGGER film_fulltext BEFORE INSERT OR UPDATE ON film
    FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger(fulltext, 'pg_catalog.english', title, description);
CREATE TABLE category (
    category_id serial PRIMARY KEY, name varchar(25) NOT NULL, parent integer REFERENCES category, last_update timestamp NOT NULL DEFAULT now()
);
CREATE TABLE film_performer (
    performer_id integer NOT NULL REFERENCES performer ON UPDATE CASCADE ON DELETE RESTRICT,
    film_id integer NOT NULL REFERENCES film ON UPDATE CASCADE ON DELETE RESTRICT,
    last_update timestamp NOT NULL DEFAULT now(), PRIMARY KEY (performer_id, film_id)
);
CREATE TABLE film_category (
    film_id integer NOT NULL REFERENCES film ON UPDATE CASCADE, category_id integer NOT NULL REFERENCES category ON UPDATE CASCADE,
    last_update timestamp NOT NULL DEFAULT now(), PRIMARY KEY (film_id, category_id)
);
CREATE TABLE store (
    store_id serial PRIMARY KEY, manager_staff_id smallint NOT NULL UNIQUE, address_id smallint NOT NULL REFERENCES address,
    opening time NOT NULL DEFAULT '08:30', last_update timestamp NOT NULL DEFAULT now()
);
CREATE TABLE staff (
    staff_id serial PRIMARY KEY, first_name varchar(45) NOT NULL, address_id smallint NOT NULL REFERENCES address,
    email varchar(50), store_id smallint NOT NULL REFERENCES store, active boolean NOT NULL DEFAULT true, username varchar(16) NOT NULL,
    password varchar(40), picture bytea, last_update timestamp NOT NULL DEFAULT now()
);
CREATE TABLE customer (
    customer_id serial PRIMARY KEY, store_id smallint NOT NULL REFERENCES store, first_name varchar(45) NOT NULL, email varchar(50),
    address_id smallint NOT NULL REFERENCES address, activebool boolean NOT NULL DEFAULT true,
    create_date date NOT NULL DEFAULT CURRENT_DATE, last_update timestamp DEFAULT now(), active integer
);
CREATE TABLE inventory (
    inventory_id serial PRIMARY KEY, film_id smallint NOT NULL REFERENCES film, store_id smallint NOT NULL REFERENCES store,
    last_update timestamp NOT NULL DEFAULT now()
);
CREATE TABLE rental (
    rental_id serial PRIMARY KEY, rental_date timestamp NOT NULL, inventory_id integer NOT NULL REFERENCES inventory,
    customer_id smallint NOT NULL REFERENCES customer, return_date timestamp, staff_id smallint NOT NULL REFERENCES staff,
    period tsrange GENERATED ALWAYS AS (tsrange(rental_date, return_date)) STORED, last_update timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX one_rental ON rental (rental_date, inventory_id, customer_id);
CREATE SEQUENCE payment_number;
CREATE TABLE payment (
    payment_id integer NOT NULL DEFAULT nextval('payment_number'), customer_id smallint NOT NULL REFERENCES customer,
    staff_id smallint NOT NULL, rental_id integer NOT NULL, amount numeric(5,2) NOT NULL, payment_date timestamptz NOT NULL
) PARTITION BY RANGE (payment_date);
CREATE TABLE payment_p2020_01 PARTITION OF payment FOR VALUES FROM ('2020-01-01+00') TO ('2020-02-01+00');
CREATE TABLE payment_p2020_02 PARTITION OF payment FOR VALUES FROM ('2020-02-01+00') TO ('2020-03-01+00');
CREATE INDEX ON payment_p2020_01 (customer_id);
CREATE TABLE ledger (entry bigint PRIMARY KEY, amount numeric NOT NULL, kind film_rating[]) PARTITION BY HASH (entry);
CREATE TABLE ledger_0 PARTITION OF ledger FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE ledger_1 PARTITION OF ledger FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE AGGREGATE group_concat(text) (SFUNC = textcat, STYPE = text, INITCOND = '');
CREATE FUNCTION inventory_in_stock(number integer) RETURNS boolean LANGUAGE sql STABLE
    RETURN NOT EXISTS (SELECT FROM public.rental WHERE rental.inventory_id = number AND return_date IS NULL);
CREATE VIEW customer_list AS
    SELECT cu.customer_id AS id, cu.first_name || ' ' || cu.email AS name, a.postal_code AS "zip code", city.city,
        CASE WHEN cu.activebool THEN 'active' ELSE '' END AS notes, cu.store_id AS sid
    FROM customer cu JOIN address a USING (address_id) JOIN city USING (city_id);
CREATE VIEW film_list AS
    SELECT film.film_id AS fid, film.title, film.rental_rate AS price, film.rating,
        string_agg(performer.first_name, ', ' ORDER BY performer_id) AS performers
    FROM film JOIN film_performer USING (film_id) JOIN performer USING (performer_id) GROUP BY film.film_id;
CREATE VIEW sales_by_category AS
    SELECT category.name AS category, sum(payment.amount) AS total_sales FROM payment JOIN rental USING (rental_id)
    JOIN inventory USING (inventory_id) JOIN film_category USING (film_id) JOIN category USING (category_id)
    GROUP BY category.name ORDER BY total_sales DESC;
CREATE VIEW long_films AS SELECT film_id, title, length FROM film WHERE length > 60 WITH CHECK OPTION;
CREATE MATERIALIZED VIEW rentals_by_month AS
    SELECT date_trunc('month', rental_date) AS month, count(*) AS rentals, array_agg(rental_id) AS ids FROM rental GROUP BY 1;
CREATE UNIQUE INDEX ON rentals_by_month (month);
INSERT INTO country (country, last_update) SELECT 'country ' || n, timestamp '2020-02-15 09:44:00.000001' FROM generate_series(1, 20) n;
INSERT INTO city (city, country_id, last_update)
SELECT 'city ' || n, 1 + n % 20, timestamp '2020-02-15 09:45:25.123456' FROM generate_series(1, 40) n;
INSERT INTO address (address, address2, district, city_id, postal_code, phone, place)
SELECT n || ' some street', nullif('', CASE n % 3 WHEN 0 THEN '' ELSE 'x' END), '', 1 + n % 40, lpad(n::text, 5, '0'), '',
    point(n, -n / 3.0) FROM generate_series(1, 60) n;
INSERT INTO language (name) VALUES ('English'), ('Suomi'), ('日本語'), ('Français');
INSERT INTO performer (first_name, last_name, "Stage Name")
SELECT upper('first' || n), 'last' || n % 7, CASE n % 4 WHEN 0 THEN 'The "' || n || '" 100%' END FROM generate_series(1, 50) n;
INSERT INTO film (title, description, release_year, language_id, original_language_id, sequel_of, rental_rate, length, rating,
    special_features, discount, "primaryKey", last_update)
SELECT 'film ' || n, 'A tale of ' || n || ' boats, it''s said', 1950 + n % 70, 1 + n % 4, nullif(n % 4, 0),
    CASE n % 10 WHEN 0 THEN n - 1 END, 0.99 + n % 5, 46 + n % 140, (enum_range(NULL::film_rating))[1 + n % 5],
    CASE n % 3 WHEN 0 THEN ARRAY['Trailers', 'Deleted Scenes, "cut"'] WHEN 1 THEN '{}'::text[] END, n % 100 + 0.25, 'key ' || n,
    timestamp '2020-09-10 17:46:03.905795' + n * interval '1 ms' FROM generate_series(1, 150) n;
INSERT INTO category (name, parent) SELECT 'category ' || n, nullif(n / 2, 0) FROM generate_series(1, 16) n;
INSERT INTO film_performer SELECT performer_id, film_id FROM performer, film WHERE (film_id + performer_id) % 41 = 0;
INSERT INTO film_category SELECT n, 1 + n % 16 FROM generate_series(1, 150) n;
INSERT INTO store (manager_staff_id, address_id) VALUES (1, 1), (2, 2);
INSERT INTO staff (first_name, address_id, email, store_id, username, password, picture) VALUES
    ('Mia', 3, 'mia@example.com', 1, 'Mia', '8cb2237d0679ca88db6464eac60da96345513964', '\x89504e470d0a5a0a00ff'), ('Jo', 4, NULL, 2, 'Jo', NULL, NULL);
ALTER TABLE store ADD FOREIGN KEY (manager_staff_id) REFERENCES staff (staff_id) ON UPDATE CASCADE;
INSERT INTO customer (store_id, first_name, email, address_id, activebool, create_date, active)
SELECT 1 + n % 2, 'Customer ' || n, 'c' || n || '@example.com', 5 + n % 50, n % 7 > 0, date '2020-02-14', n % 2 FROM generate_series(1, 80) n;
INSERT INTO inventory (film_id, store_id) SELECT 1 + n % 150, 1 + n % 2 FROM generate_series(1, 100) n;
INSERT INTO rental (rental_date, inventory_id, customer_id, return_date, staff_id, last_update)
SELECT timestamp '2020-01-01 22:53:30' + n * interval '7 hours 1 second', n, 1 + n % 80,
    CASE WHEN n % 9 > 0 THEN timestamp '2020-05-01 10:00:00.5' + n * interval '1 day' END, 1 + n % 2, '2020-02-16 02:30:53.000001+00'
FROM generate_series(1, 100) n;
INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date)
SELECT 1 + n % 80, 1 + n % 2, n, n % 12 + 0.99, timestamptz '2020-01-01 00:00:00.996577+00' + n * interval '13 hours'
FROM generate_series(1, 100) n;
INSERT INTO ledger SELECT n * 100000000000, n / 3.0, ARRAY['all', '6+']::film_rating[] FROM generate_series(1, 20) n;
REFRESH MATERIALIZED VIEW rentals_by_month;
DO $$ DECLARE t text; BEGIN
    FOREACH t IN ARRAY ARRAY['country', 'city', 'address', 'language', 'performer', 'film', 'category', 'store', 'staff', 'customer'] LOOP
        EXECUTE format('CREATE TRIGGER last_updated BEFORE UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION stamp_update()', t);
    END LOOP;
END $$;
