-- A clinic: history tables, triggers that raise, row security, and types of its own.
CREATE TYPE sex AS ENUM ('female', 'male', 'it''s else');
CREATE TYPE address AS (street text, town text);
CREATE DOMAIN email AS text CHECK (value ~ '@');
CREATE DOMAIN code AS char(5) NOT NULL DEFAULT 'A0000';
CREATE TABLE "Ward" ("Ward No" smallint PRIMARY KEY, "group" varchar(40) NOT NULL UNIQUE, "order" real DEFAULT 1.5);
CREATE TABLE patient (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name varchar(50) NOT NULL,
    mail email UNIQUE,
    sex sex NOT NULL DEFAULT 'female',
    home address,
    born date CHECK (born > '1850-01-01'),
    seen timestamptz(6) DEFAULT now(),
    stamp timestamp(3),
    weight numeric(20,10) DEFAULT 70.0000000001,
    dose double precision,
    allergies text[] NOT NULL DEFAULT '{}',
    visits int[],
    stay interval DEFAULT '1 day',
    free tstzrange,
    host inet,
    fee money,
    notes jsonb DEFAULT '{"a": 1}',
    raw json,
    photo bytea,
    token uuid DEFAULT gen_random_uuid(),
    label char(8),
    diagnosis code,
    active boolean NOT NULL DEFAULT true,
    name_length int GENERATED ALWAYS AS (length(name)) STORED,
    ward smallint REFERENCES "Ward" DEFERRABLE INITIALLY DEFERRED,
    "select" text DEFAULT 'it''s'
);
CREATE UNIQUE INDEX one_active_name ON patient (name) WHERE active;
CREATE INDEX lowered ON patient (lower(name) text_pattern_ops);
CREATE STATISTICS patient_statistics ON ward, active FROM patient;
COMMENT ON COLUMN patient.weight IS 'kg';
CREATE TABLE patient_history (LIKE patient, changed_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION keep_patient() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO patient_history SELECT OLD.*; RETURN NEW; END $$;
CREATE TRIGGER keep AFTER UPDATE ON patient FOR EACH ROW EXECUTE FUNCTION keep_patient();
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'patients are kept'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON patient FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER watched AFTER UPDATE OF stamp ON patient FOR EACH ROW EXECUTE FUNCTION keep_patient();
CREATE VIEW patients_seen AS SELECT id, name, seen FROM patient;
CREATE VIEW names_seen AS SELECT name FROM patients_seen;
CREATE MATERIALIZED VIEW doses AS SELECT sum(dose) AS dose FROM patient;
ALTER TABLE patient ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON patient USING (host IS NULL OR true);
CREATE TABLE visit (
    patient int NOT NULL REFERENCES patient ON DELETE CASCADE, day date NOT NULL, note text,
    PRIMARY KEY (patient, day)
) PARTITION BY RANGE (day);
CREATE TABLE visit_2020 PARTITION OF visit FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE mail_of (mail email REFERENCES patient (mail), id serial PRIMARY KEY);
CREATE TABLE person (id serial PRIMARY KEY, name text);
CREATE TABLE nurse (grade int) INHERITS (person);
CREATE TABLE no_key (a int, b text UNIQUE DEFERRABLE);
INSERT INTO "Ward" VALUES (1, 'east', 0.1);
INSERT INTO patient (name, mail, home, born, seen, stamp, weight, dose, allergies, visits, free, host, fee, raw, photo, label, ward)
SELECT 'patient ' || n, 'p' || n || '@example.com', ROW('street', 'town')::address, date '1990-01-01' + n,
       timestamptz '2020-01-01 00:00:00.123456+00' + n * interval '1 hour', timestamp '2020-01-01 00:00:00.123',
       n + 0.0123456789, n / 3.0, ARRAY['a,b', 'c "d"'], ARRAY[1, NULL, n], tstzrange('2020-01-01', NULL), '10.0.0.1', 12.5,
       '{"b":  [1,  2]}', '\x00ff', 'ab', 1
FROM generate_series(1, 5) AS n;
INSERT INTO visit VALUES (1, '2020-02-02', 'cold');
INSERT INTO no_key VALUES (1, 'x');
