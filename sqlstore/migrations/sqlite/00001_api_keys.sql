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

-- Counts the revision up for a writer who does not, such as the sqlite3 shell.
-- So a program that read the row before cannot overwrite the change. A use is
-- no change.
CREATE TRIGGER "api_keys_after_update" AFTER UPDATE ON "api_keys"
WHEN NEW.revision <= OLD.revision AND
    (OLD.id, OLD.hash, OLD.hint, OLD.name, OLD.owner, OLD.scopes, OLD.metadata, OLD.created_at, OLD.created_by,
        OLD.updated_at, OLD.updated_by, OLD.revision, OLD.expires_at, OLD.disabled_at, OLD.revoked_at,
        OLD.rotated_from, OLD.rotated_to, OLD.chain)
    IS NOT
    (NEW.id, NEW.hash, NEW.hint, NEW.name, NEW.owner, NEW.scopes, NEW.metadata, NEW.created_at, NEW.created_by,
        NEW.updated_at, NEW.updated_by, NEW.revision, NEW.expires_at, NEW.disabled_at, NEW.revoked_at,
        NEW.rotated_from, NEW.rotated_to, NEW.chain)
BEGIN
    UPDATE "api_keys" SET
        revision = OLD.revision + 1,
        updated_at = CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER),
        updated_by = 'sql:'
    WHERE id = NEW.id;
END;
