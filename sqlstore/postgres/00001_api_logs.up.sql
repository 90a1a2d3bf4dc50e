-- A table for the API logs of github.com/insigner/auth, in partitions of a day.
--
-- psql, goose, golang-migrate, sql-migrate, dbmate and tern each run this file.
-- For a table with another name:
--
--     sed 's/api_logs/my_logs/g' 00001_api_logs.up.sql
--
-- migrate:up
-- +goose Up
-- +goose StatementBegin
-- +migrate Up
-- +migrate StatementBegin

CREATE TABLE "api_logs" (
    id             text        COLLATE "C" NOT NULL,
    at             timestamptz NOT NULL,            -- when the request began
    duration_us    bigint      NOT NULL,            -- microseconds
    key_id         text        COLLATE "C" NOT NULL, -- '': no known key
    owner          text        COLLATE "C" NOT NULL,
    method         text        COLLATE "C" NOT NULL,
    route          text        COLLATE "C" NOT NULL,
    path           text        COLLATE "C" NOT NULL, -- without the query
    status         integer     NOT NULL,
    code           text        COLLATE "C" NOT NULL, -- why it was refused
    request_bytes  bigint      NOT NULL,
    response_bytes bigint      NOT NULL,
    request_id     text        COLLATE "C" NOT NULL,
    user_agent     text        COLLATE "C" NOT NULL,
    remote_addr    inet,
    lost           bigint      NOT NULL,            -- not 0: that many requests are missing
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);

-- The newest of a key and of an owner, with what a chart needs, so that it reads
-- no row of the table.
CREATE INDEX "api_logs_key_idx" ON "api_logs" (key_id, at DESC, id DESC) INCLUDE (owner, status, lost);
CREATE INDEX "api_logs_owner_idx" ON "api_logs" (owner, at DESC, id DESC) INCLUDE (status, lost);

-- IDs that apilog.NewID did not make: those it made say the time.
CREATE INDEX "api_logs_id_idx" ON "api_logs" (id) WHERE octet_length(id) <> 20 OR id ~ '[^0-9a-v]';

-- Makes the partitions of yesterday and of the next days, as far as they are
-- missing. Each program that appends calls it, so the role needs no right to create
-- tables. An entry of another day goes to the default partition.
--
-- The functions run with the rights of their owner. They get the schema here,
-- since their search_path must not hold one in which others create objects.
DO $do$
DECLARE
    home text := (SELECT nspname FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
        WHERE c.oid = '"api_logs"'::regclass);
BEGIN
EXECUTE format($f$
CREATE FUNCTION "api_logs_prepare"() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '1s' AS $body$
DECLARE
    home   text := %1$L;
    parent text := format('%%I.%%I', home, 'api_logs');
    rest   text := format('%%I.%%I', home, 'api_logs_default');
    part   text;
    day    date;
    few    bigint;
BEGIN
    FOR day IN SELECT (now() AT TIME ZONE 'UTC')::date + d FROM generate_series(-1, 8) d LOOP
        part := format('%%I.%%I', home, 'api_logs_p' || to_char(day, 'YYYYMMDD'));
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtextextended('sqlstore ' || parent, 0)); -- of several instances one
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        -- In the order in which others lock them.
        EXECUTE format('LOCK TABLE ONLY %%s IN SHARE UPDATE EXCLUSIVE MODE', parent);
        EXECUTE format('LOCK TABLE %%s IN ACCESS EXCLUSIVE MODE', rest);
        -- Entries of that day that came before it had a partition.
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %%s WHERE at >= $1 AND at < $2 LIMIT 20001) e', rest)
            INTO few USING day::timestamptz, (day + 1)::timestamptz;
        CONTINUE WHEN few > 20000; -- to move them would take long: they stay, and so do others of that day
        EXECUTE format('CREATE TABLE %%s (LIKE %%s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
            WITH (autovacuum_vacuum_insert_threshold = 10000, autovacuum_vacuum_insert_scale_factor = 0)', part, parent);
        IF few > 0 THEN
            EXECUTE format('WITH moved AS (DELETE FROM %%s WHERE at >= $1 AND at < $2 RETURNING *)
                INSERT INTO %%s SELECT * FROM moved', rest, part) USING day::timestamptz, (day + 1)::timestamptz;
        END IF;
        EXECUTE format('ALTER TABLE %%s ATTACH PARTITION %%s FOR VALUES FROM (%%L) TO (%%L)',
            parent, part, day::timestamptz, (day + 1)::timestamptz);
    END LOOP;
END
$body$
$f$, home);

-- Deletes some of the entries from before a time: a partition as a whole, or a
-- few thousand entries. Returns how many, or NULL if there are none left.
EXECUTE format($f$
CREATE FUNCTION "api_logs_expire"(before timestamptz) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms' AS $body$
DECLARE
    home   text := %1$L;
    parent text := format('%%I.%%I', home, 'api_logs');
    part   text;
    last   timestamptz;
    n      bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('sqlstore expire ' || parent, 0)) THEN
        RETURN NULL; -- another instance does it
    END IF;
    SELECT format('%%I.%%I', home, relname) INTO part FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = parent::regclass AND relname ~ ('^' || 'api_logs_p' || '[0-9]{8}$')
            AND (to_date(right(relname, 8), 'YYYYMMDD') + 1)::timestamptz <= before
        ORDER BY relname LIMIT 1;
    IF part IS NOT NULL THEN
        EXECUTE format('SELECT count(*) FROM %%s', part) INTO n;
        EXECUTE format('DROP TABLE %%s', part);
        RETURN n;
    END IF;
    EXECUTE format('SELECT max(at) FROM (SELECT at FROM %%s WHERE at < $1 ORDER BY at LIMIT 5000) e', parent)
        INTO last USING before;
    IF last IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('DELETE FROM %%s WHERE at <= $1', parent) USING last;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n = 0 THEN -- another role deleted them, or a trigger prevents it
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %%s WHERE at <= $1 LIMIT 1) e', parent) INTO n USING last;
        IF n > 0 THEN
            RAISE EXCEPTION 'the database deleted nothing, and reported no error';
        END IF;
    END IF;
    RETURN n;
END
$body$
$f$, home);
END
$do$;

REVOKE ALL ON FUNCTION "api_logs_prepare"() FROM PUBLIC;
REVOKE ALL ON FUNCTION "api_logs_expire"(timestamptz) FROM PUBLIC;

CREATE TABLE "api_logs_default" PARTITION OF "api_logs" DEFAULT
    WITH (autovacuum_vacuum_insert_threshold = 10000, autovacuum_vacuum_insert_scale_factor = 0);

SELECT "api_logs_prepare"();

-- +migrate StatementEnd
-- +goose StatementEnd

-- There is no way back, since it would delete the entries. dbmate wants this line:
-- migrate:down
