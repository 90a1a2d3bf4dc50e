-- Tables for the keys of github.com/insigner/auth, and for what happened to them.
--
-- sqlite3, goose, golang-migrate, sql-migrate and dbmate each run this file. For
-- tables with another name:
--
--     sed 's/api_keys/my_keys/g' 00001_api_keys.up.sql
--
-- migrate:up
-- +goose Up
-- +goose StatementBegin
-- +migrate Up
-- +migrate StatementBegin

-- Times are microseconds since 1970 UTC, in the years 1 to 9999: later ones
-- have no JSON (RFC 3339). With unixepoch: unixepoch('subsec') * 1000000.
CREATE TABLE "api_keys" (
    id           TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    hint         TEXT    NOT NULL DEFAULT '',
    name         TEXT    NOT NULL DEFAULT '',
    owner        TEXT    NOT NULL DEFAULT '',
    scopes       TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(scopes) AND json_type(scopes) = 'array'),
    metadata     TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(metadata) AND json_type(metadata) = 'object'),
    created_at   INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER))
        CHECK (created_at BETWEEN -62135596800000000 AND 253402300799999999),
    created_by   TEXT    NOT NULL DEFAULT '',
    updated_at   INTEGER                        -- NULL: not known
        CHECK (updated_at BETWEEN -62135596799999999 AND 253402300799999999),
    updated_by   TEXT    NOT NULL DEFAULT '',
    revision     INTEGER NOT NULL DEFAULT 1,    -- one more with each change
    expires_at   INTEGER                        -- NULL: never
        CHECK (expires_at BETWEEN -62135596799999999 AND 253402300799999999),
    disabled_at  INTEGER                        -- NULL: not disabled
        CHECK (disabled_at BETWEEN -62135596799999999 AND 253402300799999999),
    revoked_at   INTEGER                        -- NULL: not revoked
        CHECK (revoked_at BETWEEN -62135596799999999 AND 253402300799999999),
    last_used_at INTEGER                        -- NULL: not used
        CHECK (last_used_at BETWEEN -62135596799999999 AND 253402300799999999),
    rotated_from TEXT    NOT NULL DEFAULT '',   -- id of the key that this one replaced
    rotated_to   TEXT    NOT NULL DEFAULT '',   -- id of the key that replaced this one
    chain        TEXT    NOT NULL DEFAULT ''    -- id of the first key of its rotations
) STRICT;

-- Lists, oldest first and newest first.
CREATE INDEX "api_keys_created_idx" ON "api_keys" (created_at, id);
CREATE INDEX "api_keys_owner_idx" ON "api_keys" (owner, created_at, id);
CREATE INDEX "api_keys_chain_idx" ON "api_keys" (chain, created_at, id);
CREATE INDEX "api_keys_created_by_idx" ON "api_keys" (created_by, created_at, id);
CREATE INDEX "api_keys_revoked_idx" ON "api_keys" (created_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX "api_keys_disabled_idx" ON "api_keys" (created_at, id) WHERE disabled_at IS NOT NULL;
CREATE INDEX "api_keys_expires_idx" ON "api_keys" (expires_at) WHERE expires_at IS NOT NULL;

-- What happened to the keys. Triggers write it. A watcher reads it to know what
-- other programs have changed.
CREATE TABLE "api_keys_events" (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    kind     TEXT    NOT NULL, -- created, updated, rotated, disabled, enabled, revoked, deleted
    key_id   TEXT    NOT NULL,
    owner    TEXT    NOT NULL,
    made_by  TEXT    NOT NULL, -- the actor, or sql:
    revision INTEGER NOT NULL,
    before   TEXT,             -- the row in JSON; NULL if it was created
    after    TEXT              -- the row in JSON; NULL if it was deleted
) STRICT;

CREATE INDEX "api_keys_events_key_idx" ON "api_keys_events" (key_id, id);
CREATE INDEX "api_keys_events_owner_idx" ON "api_keys_events" (owner, id);
CREATE INDEX "api_keys_events_made_by_idx" ON "api_keys_events" (made_by, id);
CREATE INDEX "api_keys_events_at_idx" ON "api_keys_events" (at);

-- A program that changes keys inserts the actor here, and deletes it at the end
-- of its transaction. It also sets updated_at and updated_by, and counts the
-- revision up. For all others, such as the sqlite3 shell, a trigger does it.
CREATE TABLE "api_keys_actor" (
    one     INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    made_by TEXT NOT NULL
) STRICT;

-- Each scope is a text, and so is each value of the metadata.
CREATE TRIGGER "api_keys_check_insert" BEFORE INSERT ON "api_keys"
WHEN CASE WHEN json_valid(NEW.scopes) AND json_valid(NEW.metadata) THEN
    EXISTS (SELECT 1 FROM json_each(NEW.scopes) WHERE type <> 'text') OR
    EXISTS (SELECT 1 FROM json_each(NEW.metadata) WHERE type <> 'text') END
BEGIN
    SELECT RAISE(ABORT, 'scopes is not a JSON array of texts, or metadata no JSON object of texts');
END;

CREATE TRIGGER "api_keys_check_update" BEFORE UPDATE OF scopes, metadata ON "api_keys"
WHEN CASE WHEN json_valid(NEW.scopes) AND json_valid(NEW.metadata) THEN
    EXISTS (SELECT 1 FROM json_each(NEW.scopes) WHERE type <> 'text') OR
    EXISTS (SELECT 1 FROM json_each(NEW.metadata) WHERE type <> 'text') END
BEGIN
    SELECT RAISE(ABORT, 'scopes is not a JSON array of texts, or metadata no JSON object of texts');
END;

-- An event for each change. INSERT OR REPLACE calls no trigger for the row that
-- it deletes, so the first statement makes up for it.
CREATE TRIGGER "api_keys_record_insert" AFTER INSERT ON "api_keys"
BEGIN
    INSERT INTO "api_keys_events" (at, kind, key_id, owner, made_by, revision, before, after)
    SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER), 'deleted', key_id, owner,
        'sql:', revision, after, NULL
    FROM "api_keys_events"
    WHERE id = (SELECT max(id) FROM "api_keys_events" WHERE key_id = NEW.id) AND after IS NOT NULL;
    INSERT INTO "api_keys_events" (at, kind, key_id, owner, made_by, revision, before, after)
    SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER), 'created', NEW.id, NEW.owner,
        coalesce((SELECT made_by FROM "api_keys_actor"), 'sql:'),
        NEW.revision, NULL,
        json_object('id', NEW.id, 'hash', lower(hex(NEW.hash)), 'hint', NEW.hint, 'name', NEW.name,
            'owner', NEW.owner, 'scopes', '' || NEW.scopes, 'metadata', NEW.metadata,
            'created_at', NEW.created_at, 'created_by', NEW.created_by,
            'updated_at', NEW.updated_at, 'updated_by', NEW.updated_by, 'revision', NEW.revision,
            'expires_at', NEW.expires_at, 'disabled_at', NEW.disabled_at,
            'revoked_at', NEW.revoked_at, 'last_used_at', NEW.last_used_at,
            'rotated_from', NEW.rotated_from, 'rotated_to', NEW.rotated_to, 'chain', NEW.chain);
END;

CREATE TRIGGER "api_keys_record_delete" AFTER DELETE ON "api_keys"
BEGIN
    INSERT INTO "api_keys_events" (at, kind, key_id, owner, made_by, revision, before, after)
    SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER), 'deleted', OLD.id, OLD.owner,
        coalesce((SELECT made_by FROM "api_keys_actor"), 'sql:'), OLD.revision,
        json_object('id', OLD.id, 'hash', lower(hex(OLD.hash)), 'hint', OLD.hint, 'name', OLD.name,
            'owner', OLD.owner, 'scopes', '' || OLD.scopes, 'metadata', OLD.metadata,
            'created_at', OLD.created_at, 'created_by', OLD.created_by,
            'updated_at', OLD.updated_at, 'updated_by', OLD.updated_by, 'revision', OLD.revision,
            'expires_at', OLD.expires_at, 'disabled_at', OLD.disabled_at,
            'revoked_at', OLD.revoked_at, 'last_used_at', OLD.last_used_at,
            'rotated_from', OLD.rotated_from, 'rotated_to', OLD.rotated_to, 'chain', OLD.chain),
        NULL;
END;

-- An update by a program that counts the revision up. A use is no change.
CREATE TRIGGER "api_keys_record_update" AFTER UPDATE ON "api_keys"
WHEN EXISTS (SELECT 1 FROM "api_keys_actor") AND NEW.revision =
    CASE OLD.revision WHEN 9223372036854775807 THEN -9223372036854775808 ELSE OLD.revision + 1 END AND
    (OLD.id, OLD.hash, OLD.hint, OLD.name, OLD.owner, OLD.scopes, OLD.metadata, OLD.created_at,
        OLD.created_by, OLD.expires_at, OLD.disabled_at, OLD.revoked_at, OLD.rotated_from, OLD.rotated_to,
        OLD.chain)
    IS NOT
    (NEW.id, NEW.hash, NEW.hint, NEW.name, NEW.owner, NEW.scopes, NEW.metadata, NEW.created_at,
        NEW.created_by, NEW.expires_at, NEW.disabled_at, NEW.revoked_at, NEW.rotated_from, NEW.rotated_to,
        NEW.chain)
BEGIN
    INSERT INTO "api_keys_events" (at, kind, key_id, owner, made_by, revision, before, after)
    SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER),
        CASE
            WHEN OLD.rotated_to = '' AND NEW.rotated_to <> '' THEN 'rotated'
            WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL THEN 'revoked'
            WHEN OLD.disabled_at IS NULL AND NEW.disabled_at IS NOT NULL THEN 'disabled'
            WHEN OLD.disabled_at IS NOT NULL AND NEW.disabled_at IS NULL THEN 'enabled'
            ELSE 'updated'
        END,
        NEW.id, NEW.owner, NEW.updated_by, NEW.revision,
        json_object('id', OLD.id, 'hash', lower(hex(OLD.hash)), 'hint', OLD.hint, 'name', OLD.name,
            'owner', OLD.owner, 'scopes', '' || OLD.scopes, 'metadata', OLD.metadata,
            'created_at', OLD.created_at, 'created_by', OLD.created_by,
            'updated_at', OLD.updated_at, 'updated_by', OLD.updated_by, 'revision', OLD.revision,
            'expires_at', OLD.expires_at, 'disabled_at', OLD.disabled_at,
            'revoked_at', OLD.revoked_at, 'last_used_at', OLD.last_used_at,
            'rotated_from', OLD.rotated_from, 'rotated_to', OLD.rotated_to, 'chain', OLD.chain),
        json_object('id', NEW.id, 'hash', lower(hex(NEW.hash)), 'hint', NEW.hint, 'name', NEW.name,
            'owner', NEW.owner, 'scopes', '' || NEW.scopes, 'metadata', NEW.metadata,
            'created_at', NEW.created_at, 'created_by', NEW.created_by,
            'updated_at', NEW.updated_at, 'updated_by', NEW.updated_by, 'revision', NEW.revision,
            'expires_at', NEW.expires_at, 'disabled_at', NEW.disabled_at,
            'revoked_at', NEW.revoked_at, 'last_used_at', NEW.last_used_at,
            'rotated_from', NEW.rotated_from, 'rotated_to', NEW.rotated_to, 'chain', NEW.chain);
END;

-- Any other update. It counts the revision up, so that a program that read the
-- row before cannot overwrite the change. After the greatest revision comes the
-- smallest, as in Go, so that a key with it can be revoked.
CREATE TRIGGER "api_keys_revise" AFTER UPDATE ON "api_keys"
WHEN NOT (EXISTS (SELECT 1 FROM "api_keys_actor") AND NEW.revision =
    CASE OLD.revision WHEN 9223372036854775807 THEN -9223372036854775808 ELSE OLD.revision + 1 END) AND (
    NEW.revision < OLD.revision OR
    NEW.updated_by <> 'sql:' AND (OLD.updated_at, OLD.updated_by) IS NOT (NEW.updated_at, NEW.updated_by) OR
    (OLD.id, OLD.hash, OLD.hint, OLD.name, OLD.owner, OLD.scopes, OLD.metadata, OLD.created_at,
        OLD.created_by, OLD.expires_at, OLD.disabled_at, OLD.revoked_at, OLD.rotated_from, OLD.rotated_to,
        OLD.chain)
    IS NOT
    (NEW.id, NEW.hash, NEW.hint, NEW.name, NEW.owner, NEW.scopes, NEW.metadata, NEW.created_at,
        NEW.created_by, NEW.expires_at, NEW.disabled_at, NEW.revoked_at, NEW.rotated_from, NEW.rotated_to,
        NEW.chain))
BEGIN
    UPDATE "api_keys" SET
        revision = CASE OLD.revision WHEN 9223372036854775807 THEN -9223372036854775808 ELSE OLD.revision + 1 END,
        updated_at = CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER),
        updated_by = 'sql:'
    WHERE id = NEW.id;
    INSERT INTO "api_keys_events" (at, kind, key_id, owner, made_by, revision, before, after)
    SELECT N.updated_at,
        CASE
            WHEN OLD.rotated_to = '' AND NEW.rotated_to <> '' THEN 'rotated'
            WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL THEN 'revoked'
            WHEN OLD.disabled_at IS NULL AND NEW.disabled_at IS NOT NULL THEN 'disabled'
            WHEN OLD.disabled_at IS NOT NULL AND NEW.disabled_at IS NULL THEN 'enabled'
            ELSE 'updated'
        END,
        N.id, N.owner, N.updated_by, N.revision,
        json_object('id', OLD.id, 'hash', lower(hex(OLD.hash)), 'hint', OLD.hint, 'name', OLD.name,
            'owner', OLD.owner, 'scopes', '' || OLD.scopes, 'metadata', OLD.metadata,
            'created_at', OLD.created_at, 'created_by', OLD.created_by,
            'updated_at', OLD.updated_at, 'updated_by', OLD.updated_by, 'revision', OLD.revision,
            'expires_at', OLD.expires_at, 'disabled_at', OLD.disabled_at,
            'revoked_at', OLD.revoked_at, 'last_used_at', OLD.last_used_at,
            'rotated_from', OLD.rotated_from, 'rotated_to', OLD.rotated_to, 'chain', OLD.chain),
        json_object('id', N.id, 'hash', lower(hex(N.hash)), 'hint', N.hint, 'name', N.name, 'owner', N.owner,
            'scopes', '' || N.scopes, 'metadata', N.metadata, 'created_at', N.created_at,
            'created_by', N.created_by, 'updated_at', N.updated_at, 'updated_by', N.updated_by,
            'revision', N.revision, 'expires_at', N.expires_at, 'disabled_at', N.disabled_at,
            'revoked_at', N.revoked_at, 'last_used_at', N.last_used_at,
            'rotated_from', N.rotated_from, 'rotated_to', N.rotated_to, 'chain', N.chain)
    FROM "api_keys" N WHERE N.id = NEW.id AND
    (OLD.id, OLD.hash, OLD.hint, OLD.name, OLD.owner, OLD.scopes, OLD.metadata, OLD.created_at,
        OLD.created_by, OLD.expires_at, OLD.disabled_at, OLD.revoked_at, OLD.rotated_from, OLD.rotated_to,
        OLD.chain)
    IS NOT
    (NEW.id, NEW.hash, NEW.hint, NEW.name, NEW.owner, NEW.scopes, NEW.metadata, NEW.created_at,
        NEW.created_by, NEW.expires_at, NEW.disabled_at, NEW.revoked_at, NEW.rotated_from, NEW.rotated_to,
        NEW.chain);
END;

-- +migrate StatementEnd
-- +goose StatementEnd

-- There is no way back, since it would delete the keys. dbmate wants this line:
-- migrate:down
