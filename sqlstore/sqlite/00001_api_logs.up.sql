-- A table for the API logs of github.com/insigner/auth.
--
-- The sqlite3 shell, goose, golang-migrate, sql-migrate and dbmate each run
-- this file. For a table with another name:
--
--     sed 's/api_logs/my_logs/g' 00001_api_logs.up.sql
--
-- migrate:up
-- +goose Up
-- +goose StatementBegin
-- +migrate Up
-- +migrate StatementBegin

-- Times are microseconds since 1970 in UTC. The table is in the order of time,
-- so that the newest entries are together, and the oldest can be deleted.
CREATE TABLE "api_logs" (
    id             TEXT    NOT NULL,
    at             INTEGER NOT NULL, -- when the request began
    duration_us    INTEGER NOT NULL, -- microseconds
    key_id         TEXT    NOT NULL, -- '': no known key
    owner          TEXT    NOT NULL,
    method         TEXT    NOT NULL,
    route          TEXT    NOT NULL,
    path           TEXT    NOT NULL, -- without the query
    status         INTEGER NOT NULL,
    code           TEXT    NOT NULL, -- why it was refused
    request_bytes  INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    request_id     TEXT    NOT NULL,
    user_agent     TEXT    NOT NULL,
    remote_addr    TEXT    NOT NULL, -- '': not known
    lost           INTEGER NOT NULL, -- not 0: that many requests are missing
    PRIMARY KEY (at, id)
) STRICT, WITHOUT ROWID;

-- The newest of a key and of an owner, with what a chart needs, so that it reads
-- no row of the table.
CREATE INDEX "api_logs_key_idx" ON "api_logs" (key_id, at, id, owner, status, lost);
CREATE INDEX "api_logs_owner_idx" ON "api_logs" (owner, at, id, status, lost);

-- IDs that apilog.NewID did not make: those it made say the time.
CREATE INDEX "api_logs_id_idx" ON "api_logs" (id) WHERE length(id) <> 20 OR id GLOB '*[^0-9a-v]*';

-- +migrate StatementEnd
-- +goose StatementEnd

-- There is no way back, since it would delete the entries. dbmate wants this line:
-- migrate:down
