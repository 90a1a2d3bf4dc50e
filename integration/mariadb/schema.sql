-- The customers of the application. This table was there before.
CREATE TABLE customers (
	id VARCHAR(255) PRIMARY KEY
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE api_keys (
	id           BINARY(16)   PRIMARY KEY,
	hash         BINARY(32)   NOT NULL UNIQUE,
	hint         VARCHAR(255) NOT NULL,
	name         VARCHAR(255) NOT NULL,
	owner        VARCHAR(255) NOT NULL,
	scopes       JSON         NOT NULL,
	metadata     JSON         NOT NULL,
	created_at   DATETIME(6)  NOT NULL,
	created_by   VARCHAR(255) NOT NULL,
	updated_at   DATETIME(6)  NULL,
	updated_by   VARCHAR(255) NOT NULL,
	revision     BIGINT       NOT NULL,
	expires_at   DATETIME(6)  NULL,
	disabled_at  DATETIME(6)  NULL,
	revoked_at   DATETIME(6)  NULL,
	last_used_at DATETIME(6)  NULL,
	rotated_from BINARY(16)   NULL,
	rotated_to   BINARY(16)   NULL,
	chain        BINARY(16)   NULL,
	FOREIGN KEY (owner) REFERENCES customers (id),
	KEY (owner, created_at, id),
	KEY (created_at, id),
	KEY (chain)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- An event outlives its key, and perhaps its customer.
CREATE TABLE api_key_events (
	id            BIGINT       AUTO_INCREMENT PRIMARY KEY,
	time          DATETIME(6)  NOT NULL,
	kind          VARCHAR(16)  NOT NULL,
	key_id        BINARY(16)   NOT NULL,
	owner         VARCHAR(255) NOT NULL,
	actor         VARCHAR(255) NOT NULL,
	revision      BIGINT       NOT NULL,
	before_change JSON         NULL,
	after_change  JSON         NULL,
	KEY (key_id),
	KEY (owner)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
