-- Tables for the keys of github.com/insigner/auth, and for what happened to them.
--
-- psql, goose, golang-migrate, sql-migrate, dbmate and tern each run this file.
-- For tables with another name:
--
--     sed 's/api_keys/my_keys/g' 00001_api_keys.up.sql
--
-- migrate:up
-- +goose Up
-- +goose StatementBegin
-- +migrate Up
-- +migrate StatementBegin

CREATE TABLE "api_keys" (
    id           text        COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    hash         bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    hint         text        NOT NULL DEFAULT '',
    name         text        NOT NULL DEFAULT '',
    owner        text        NOT NULL DEFAULT '',
    -- JSON in text columns, since jsonb refuses \u0000. The patterns are for JSON
    -- with strings only.
    scopes       text        NOT NULL DEFAULT '[]' CHECK (json_typeof(scopes::json) = 'array'
        AND scopes ~ '^\s*\[\s*(?:"(?:[^"\\]|\\.)*"\s*(?:,\s*)?)*\]\s*$'),
    metadata     text        NOT NULL DEFAULT '{}' CHECK (json_typeof(metadata::json) = 'object'
        AND metadata ~ '^\s*\{\s*(?:"(?:[^"\\]|\\.)*"\s*:\s*"(?:[^"\\]|\\.)*"\s*(?:,\s*)?)*\}\s*$'),
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
CREATE INDEX "api_keys_revoked_idx" ON "api_keys" (created_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX "api_keys_disabled_idx" ON "api_keys" (created_at, id) WHERE disabled_at IS NOT NULL;
CREATE INDEX "api_keys_expires_idx" ON "api_keys" (expires_at) WHERE expires_at IS NOT NULL;

-- What happened to the keys. Triggers write it. A role that may change keys
-- needs no more than SELECT here.
CREATE TABLE "api_keys_events" (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL,
    kind     text        NOT NULL, -- created, updated, rotated, disabled, enabled, revoked, deleted
    key_id   text        COLLATE "C" NOT NULL,
    owner    text        NOT NULL,
    made_by  text        NOT NULL, -- the actor, or sql: and the role
    role     text        NOT NULL, -- of the session
    revision bigint      NOT NULL,
    before   jsonb,                -- the row; NULL if it was created
    after    jsonb                 -- the row; NULL if it was deleted
);

CREATE INDEX "api_keys_events_key_idx" ON "api_keys_events" (key_id, id);
CREATE INDEX "api_keys_events_owner_idx" ON "api_keys_events" (owner, id);
CREATE INDEX "api_keys_events_made_by_idx" ON "api_keys_events" (made_by, id);
CREATE INDEX "api_keys_events_at_idx" ON "api_keys_events" (at);

-- A program that changes keys names the actor in the setting insigner.by, for
-- its transaction: SET LOCAL insigner.by = 'by:alice'. It also sets updated_at
-- and updated_by, and counts the revision up.
--
-- For all others, such as psql, this does it. After the greatest revision comes
-- the smallest, as in Go, so that a key with it can be revoked. So a program that read the row
-- before cannot overwrite the change. A use is no change.
CREATE FUNCTION "api_keys_revise"() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.revision := CASE WHEN OLD.revision < 9223372036854775807 THEN OLD.revision + 1 ELSE -9223372036854775808 END;
    NEW.updated_at := pg_catalog.now();
    NEW.updated_by := pg_catalog.concat('sql:', session_user);
    RETURN NEW;
END
$$;

CREATE TRIGGER "api_keys_before_update" BEFORE UPDATE ON "api_keys"
    FOR EACH ROW WHEN (
        (NEW.revision - OLD.revision::numeric NOT IN (1, -18446744073709551615) OR coalesce(current_setting('insigner.by', true), '') = '') AND
        (OLD.id, OLD.hash, OLD.hint, OLD.name, OLD.owner, OLD.scopes, OLD.metadata, OLD.created_at, OLD.created_by,
            OLD.updated_at, OLD.updated_by, OLD.revision, OLD.expires_at, OLD.disabled_at, OLD.revoked_at,
            OLD.rotated_from, OLD.rotated_to, OLD.chain)
        IS DISTINCT FROM
        (NEW.id, NEW.hash, NEW.hint, NEW.name, NEW.owner, NEW.scopes, NEW.metadata, NEW.created_at, NEW.created_by,
            NEW.updated_at, NEW.updated_by, NEW.revision, NEW.expires_at, NEW.disabled_at, NEW.revoked_at,
            NEW.rotated_from, NEW.rotated_to, NEW.chain))
    EXECUTE FUNCTION "api_keys_revise"();

-- Writes an event for each change, with the rights of its owner. Nobody else may
-- create a trigger that calls it.
CREATE FUNCTION "api_keys_record"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET bytea_output = 'hex' AS $$
DECLARE
    actor text := substr(nullif(current_setting('insigner.by', true), ''), 4); -- without "by:"; NULL if nobody is named
    copied text; -- the actor, according to the row that logical replication copies
    statement text := format('INSERT INTO %I.%I (at, kind, key_id, owner, made_by, role, revision, before, after)',
        TG_TABLE_SCHEMA, TG_TABLE_NAME || '_events');
BEGIN
    -- Else a trigger on the table of another role would run that role's code with
    -- the rights of the owner.
    IF EXISTS (SELECT FROM pg_class WHERE relowner <> current_user::regrole AND oid IN (TG_RELID,
        to_regclass(format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME || '_events')))) THEN
        RAISE EXCEPTION 'the table, its events and the function % have several owners', TG_NAME;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE statement || format(
            $q$ SELECT now(), 'deleted', id, owner, $1, session_user, revision, to_jsonb(k), NULL FROM %I.%I k $q$,
            TG_TABLE_SCHEMA, TG_TABLE_NAME) USING coalesce(actor, 'sql:' || session_user);
        RETURN NULL;
    END IF;
    IF current_setting('session_replication_role') = 'replica' THEN
        copied := CASE TG_OP WHEN 'INSERT' THEN NEW.created_by WHEN 'UPDATE' THEN NEW.updated_by END;
    END IF;
    statement := statement || ' VALUES ($1, $2, $3, $4, $5, session_user, $6, $7, $8)';
    IF TG_OP = 'INSERT' THEN
        EXECUTE statement USING now(), 'created',
            NEW.id, NEW.owner, coalesce(actor, copied, 'sql:' || session_user), NEW.revision, NULL::jsonb, to_jsonb(NEW);
    ELSIF TG_OP = 'DELETE' THEN
        EXECUTE statement USING now(), 'deleted',
            OLD.id, OLD.owner, coalesce(actor, 'sql:' || session_user), OLD.revision, to_jsonb(OLD), NULL::jsonb;
    ELSE
        EXECUTE statement USING now(),
            CASE
                WHEN OLD.rotated_to = '' AND NEW.rotated_to <> '' THEN 'rotated'
                WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL THEN 'revoked'
                WHEN OLD.disabled_at IS NULL AND NEW.disabled_at IS NOT NULL THEN 'disabled'
                WHEN OLD.disabled_at IS NOT NULL AND NEW.disabled_at IS NULL THEN 'enabled'
                ELSE 'updated'
            END,
            NEW.id, NEW.owner, coalesce(actor, copied, 'sql:' || session_user), NEW.revision, to_jsonb(OLD), to_jsonb(NEW);
    END IF;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION "api_keys_record"() FROM PUBLIC;

CREATE TRIGGER "api_keys_record_row" AFTER INSERT OR DELETE ON "api_keys"
    FOR EACH ROW EXECUTE FUNCTION "api_keys_record"();

CREATE TRIGGER "api_keys_record_update" AFTER UPDATE ON "api_keys"
    FOR EACH ROW WHEN (
        (OLD.id, OLD.hash, OLD.hint, OLD.name, OLD.owner, OLD.scopes, OLD.metadata, OLD.created_at, OLD.created_by,
            OLD.expires_at, OLD.disabled_at, OLD.revoked_at, OLD.rotated_from, OLD.rotated_to, OLD.chain)
        IS DISTINCT FROM
        (NEW.id, NEW.hash, NEW.hint, NEW.name, NEW.owner, NEW.scopes, NEW.metadata, NEW.created_at, NEW.created_by,
            NEW.expires_at, NEW.disabled_at, NEW.revoked_at, NEW.rotated_from, NEW.rotated_to, NEW.chain))
    EXECUTE FUNCTION "api_keys_record"();

CREATE TRIGGER "api_keys_record_truncate" BEFORE TRUNCATE ON "api_keys"
    FOR EACH STATEMENT EXECUTE FUNCTION "api_keys_record"();

-- Tells the instances that cache these keys. They hear it when the transaction
-- is committed. A use is not told: it would empty every cache.
--
-- A program that inserts very many keys sets insigner.announce to 'all' in its
-- transaction. Then they are told as one, since the server tells the same only
-- once.
CREATE FUNCTION "api_keys_notify"() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_catalog.pg_notify('api_keys_changed', 'all');
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' AND pg_catalog.current_setting('insigner.announce', true) = 'all' THEN
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

-- Also for what logical replication or a restore writes. Such rows stay as they
-- are, so api_keys_before_update is for others only.
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_record_row";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_record_update";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_record_truncate";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_on_row";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_on_update";
ALTER TABLE "api_keys" ENABLE ALWAYS TRIGGER "api_keys_on_truncate";

-- +migrate StatementEnd
-- +goose StatementEnd

-- There is no way back, since it would delete the keys. dbmate wants this line:
-- migrate:down
