-- Times are microseconds since the Unix epoch: unixepoch('subsec') * 1000000.
CREATE TABLE "api_keys" (
    id           TEXT    NOT NULL PRIMARY KEY,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    hint         TEXT    NOT NULL DEFAULT '',
    name         TEXT    NOT NULL DEFAULT '',
    owner        TEXT    NOT NULL DEFAULT '',
    scopes       TEXT    NOT NULL DEFAULT '[]', -- a JSON array
    metadata     TEXT    NOT NULL DEFAULT '{}', -- a JSON object
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,                       -- NULL: never
    revoked_at   INTEGER,                       -- NULL: not revoked
    last_used_at INTEGER,                       -- NULL: never seen
    created_by   TEXT    NOT NULL DEFAULT '',
    replaces     TEXT    NOT NULL DEFAULT '',   -- id of the key that this one was rotated from
    replaced_by  TEXT    NOT NULL DEFAULT ''    -- id of its successor
) STRICT;

CREATE INDEX "api_keys_created_idx" ON "api_keys" (created_at, id);
CREATE INDEX "api_keys_owner_idx" ON "api_keys" (owner, created_at, id);
