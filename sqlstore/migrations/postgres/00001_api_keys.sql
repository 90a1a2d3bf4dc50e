CREATE TABLE "api_keys" (
    id           text        COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    hash         bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    hint         text        NOT NULL DEFAULT '',
    name         text        NOT NULL DEFAULT '',
    owner        text        NOT NULL DEFAULT '',
    -- JSON in text columns, since jsonb refuses \u0000.
    scopes       text        NOT NULL DEFAULT '[]' CHECK (json_typeof(scopes::json) = 'array'),
    metadata     text        NOT NULL DEFAULT '{}' CHECK (json_typeof(metadata::json) = 'object'),
    -- The years 1 to 9999 of all times: later ones have no JSON (RFC 3339).
    created_at   timestamptz NOT NULL DEFAULT now()
        CHECK (created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    created_by   text        NOT NULL DEFAULT '',
    updated_at   timestamptz                        -- NULL: not known
        CHECK (updated_at > '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'),
    updated_by   text        NOT NULL DEFAULT '',
    revision     bigint      NOT NULL DEFAULT 1,    -- one more with each change
    expires_at   timestamptz                        -- NULL: never
        CHECK (expires_at > '0001-01-01 00:00:00+00' AND expires_at < '10000-01-01 00:00:00+00'),
    disabled_at  timestamptz                        -- NULL: not disabled
        CHECK (disabled_at > '0001-01-01 00:00:00+00' AND disabled_at < '10000-01-01 00:00:00+00'),
    revoked_at   timestamptz                        -- NULL: not revoked
        CHECK (revoked_at > '0001-01-01 00:00:00+00' AND revoked_at < '10000-01-01 00:00:00+00'),
    last_used_at timestamptz                        -- NULL: not used
        CHECK (last_used_at > '0001-01-01 00:00:00+00' AND last_used_at < '10000-01-01 00:00:00+00'),
    rotated_from text        NOT NULL DEFAULT '',   -- id of the key that this one replaced
    rotated_to   text        NOT NULL DEFAULT '',   -- id of the key that replaced this one
    chain        text        NOT NULL DEFAULT ''    -- id of the first key of its rotations
);

-- Lists, oldest first and newest first.
CREATE INDEX "api_keys_created_idx" ON "api_keys" (created_at, id);
CREATE INDEX "api_keys_owner_idx" ON "api_keys" (owner, created_at, id);
CREATE INDEX "api_keys_chain_idx" ON "api_keys" (chain, created_at, id);
CREATE INDEX "api_keys_created_by_idx" ON "api_keys" (created_by, created_at, id);

-- Counts the revision up for a writer who does not, such as psql. So a program
-- that read the row before cannot overwrite the change. A use is no change.
CREATE FUNCTION "api_keys_revise"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    NEW.updated_at := pg_catalog.now();
    NEW.updated_by := pg_catalog.concat('sql:', session_user);
    RETURN NEW;
END
$$;

CREATE TRIGGER "api_keys_before_update" BEFORE UPDATE ON "api_keys"
    FOR EACH ROW WHEN (
        NEW.revision <= OLD.revision AND
        (OLD.id, OLD.hash, OLD.hint, OLD.name, OLD.owner, OLD.scopes, OLD.metadata, OLD.created_at, OLD.created_by,
            OLD.updated_at, OLD.updated_by, OLD.revision, OLD.expires_at, OLD.disabled_at, OLD.revoked_at,
            OLD.rotated_from, OLD.rotated_to, OLD.chain)
        IS DISTINCT FROM
        (NEW.id, NEW.hash, NEW.hint, NEW.name, NEW.owner, NEW.scopes, NEW.metadata, NEW.created_at, NEW.created_by,
            NEW.updated_at, NEW.updated_by, NEW.revision, NEW.expires_at, NEW.disabled_at, NEW.revoked_at,
            NEW.rotated_from, NEW.rotated_to, NEW.chain))
    EXECUTE FUNCTION "api_keys_revise"();

-- Tells the instances that cache these keys. They hear it when the transaction
-- is committed. A use is not told: it would empty every cache.
CREATE FUNCTION "api_keys_notify"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_catalog.pg_notify('api_keys_changed', 'all');
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_catalog.pg_notify('api_keys_changed', pg_catalog.encode(OLD.hash, 'hex'));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_catalog.pg_notify('api_keys_changed', pg_catalog.encode(NEW.hash, 'hex'));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER "api_keys_on_row" AFTER INSERT OR DELETE ON "api_keys"
    FOR EACH ROW EXECUTE FUNCTION "api_keys_notify"();

CREATE TRIGGER "api_keys_on_update" AFTER UPDATE ON "api_keys"
    FOR EACH ROW WHEN (
        (OLD.id, OLD.hash, OLD.hint, OLD.name, OLD.owner, OLD.scopes, OLD.metadata, OLD.created_at, OLD.created_by,
            OLD.updated_at, OLD.updated_by, OLD.revision, OLD.expires_at, OLD.disabled_at, OLD.revoked_at,
            OLD.rotated_from, OLD.rotated_to, OLD.chain)
        IS DISTINCT FROM
        (NEW.id, NEW.hash, NEW.hint, NEW.name, NEW.owner, NEW.scopes, NEW.metadata, NEW.created_at, NEW.created_by,
            NEW.updated_at, NEW.updated_by, NEW.revision, NEW.expires_at, NEW.disabled_at, NEW.revoked_at,
            NEW.rotated_from, NEW.rotated_to, NEW.chain))
    EXECUTE FUNCTION "api_keys_notify"();

CREATE TRIGGER "api_keys_on_truncate" AFTER TRUNCATE ON "api_keys"
    FOR EACH STATEMENT EXECUTE FUNCTION "api_keys_notify"();

-- Also for what logical replication or a restore writes.
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_before_update";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_on_row";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_on_update";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_on_truncate";
