-- +goose Up

-- When the last event of a room was logged, and the last one that lifts it in a
-- list of rooms, in milliseconds; 0: not since this column is there.
ALTER TABLE rooms ADD COLUMN active BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN bumped BIGINT NOT NULL DEFAULT 0;

-- When a change of membership was logged; 0 as above.
ALTER TABLE memberships ADD COLUMN ts BIGINT NOT NULL DEFAULT 0;

-- What clients of sliding sync were told: a state of a connection, which tokens
-- name. A connection has a few, so that a request may be repeated.
CREATE TABLE connections (
    user_id   TEXT   NOT NULL,
    device_id TEXT   NOT NULL,
    conn_id   TEXT   NOT NULL,
    hash      TEXT   NOT NULL,
    state     BYTEA  NOT NULL,
    written   BIGINT NOT NULL, -- milliseconds
    PRIMARY KEY (user_id, device_id, conn_id, hash)
);
CREATE INDEX connections_written ON connections (written);

-- +goose Down
DROP TABLE connections;
ALTER TABLE memberships DROP COLUMN ts;
ALTER TABLE rooms DROP COLUMN bumped;
ALTER TABLE rooms DROP COLUMN active;
