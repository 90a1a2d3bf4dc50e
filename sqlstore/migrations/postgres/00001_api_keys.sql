CREATE TABLE "api_keys" (
    id           text        COLLATE "C" PRIMARY KEY,
    hash         bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    hint         text        NOT NULL DEFAULT '',
    name         text        NOT NULL DEFAULT '',
    owner        text        NOT NULL DEFAULT '',
    scopes       text        NOT NULL DEFAULT '[]', -- a JSON array; not jsonb, which refuses \u0000
    metadata     text        NOT NULL DEFAULT '{}', -- a JSON object
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,                       -- NULL: never
    revoked_at   timestamptz,                       -- NULL: not revoked
    last_used_at timestamptz,                       -- NULL: never seen
    created_by   text        NOT NULL DEFAULT '',
    replaces     text        NOT NULL DEFAULT '',   -- id of the key that this one was rotated from
    replaced_by  text        NOT NULL DEFAULT ''    -- id of its successor
);

CREATE INDEX "api_keys_created_idx" ON "api_keys" (created_at, id);
CREATE INDEX "api_keys_owner_idx" ON "api_keys" (owner, created_at, id);

-- What the instances that cache these keys listen to. Delivered on commit; one that is repeated in a transaction,
-- once. Not for last use: every flush of it would empty every cache.
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
        (OLD.id, OLD.hash, OLD.name, OLD.owner, OLD.scopes, OLD.metadata, OLD.expires_at, OLD.revoked_at)
        IS DISTINCT FROM
        (NEW.id, NEW.hash, NEW.name, NEW.owner, NEW.scopes, NEW.metadata, NEW.expires_at, NEW.revoked_at))
    EXECUTE FUNCTION "api_keys_notify"();

CREATE TRIGGER "api_keys_on_truncate" AFTER TRUNCATE ON "api_keys"
    FOR EACH STATEMENT EXECUTE FUNCTION "api_keys_notify"();

-- Also for what logical replication or a restore writes.
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_on_row";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_on_update";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_on_truncate";
