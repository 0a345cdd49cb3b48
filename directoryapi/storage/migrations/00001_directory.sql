-- +goose Up
CREATE TABLE aliases (
    alias      TEXT PRIMARY KEY,
    room_id    TEXT NOT NULL,
    creator    TEXT NOT NULL,
    created_ts BIGINT NOT NULL -- milliseconds
);
CREATE INDEX aliases_room ON aliases (room_id);

-- Rooms in the published directory; a room may be here before it exists.
CREATE TABLE published (
    room_id TEXT PRIMARY KEY
);

-- Room upgrades that have begun and are not done; creators is a JSON array.
CREATE TABLE upgrades (
    room_id  TEXT PRIMARY KEY,
    user_id  TEXT NOT NULL,
    version  TEXT NOT NULL,
    creators TEXT NOT NULL,
    event_id TEXT NOT NULL,
    seed     TEXT NOT NULL,
    ts       BIGINT NOT NULL
);

-- What rooms look like. Booleans are 0 or 1; search is what is searched, in
-- lower case.
CREATE TABLE rooms (
    room_id         TEXT PRIMARY KEY,
    version         TEXT NOT NULL,
    room_type       TEXT NOT NULL,
    name            TEXT NOT NULL,
    topic           TEXT NOT NULL,
    canonical_alias TEXT NOT NULL,
    avatar_url      TEXT NOT NULL,
    join_rule       TEXT NOT NULL,
    encryption      TEXT NOT NULL,
    replaced        TEXT NOT NULL,
    world_readable  BIGINT NOT NULL,
    guest_can_join  BIGINT NOT NULL,
    federate        BIGINT NOT NULL,
    joined          BIGINT NOT NULL,
    search          TEXT NOT NULL
);

-- The current memberships of local users.
CREATE TABLE memberships (
    user_id    TEXT NOT NULL,
    room_id    TEXT NOT NULL,
    membership TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    PRIMARY KEY (user_id, room_id)
);
CREATE INDEX memberships_room ON memberships (room_id);

-- Annotations (reactions) that local users have sent and not redacted; key_hash
-- is the SHA-256 of the key in hexadecimal.
CREATE TABLE annotations (
    room_id  TEXT NOT NULL,
    parent   TEXT NOT NULL,
    sender   TEXT NOT NULL,
    type     TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    event_id TEXT NOT NULL,
    PRIMARY KEY (room_id, parent, sender, type, key_hash)
);
CREATE INDEX annotations_event ON annotations (event_id);

-- The last Seq of each partition of room.output that the view has applied.
CREATE TABLE positions (
    partition_id BIGINT PRIMARY KEY,
    seq          BIGINT NOT NULL
);

-- +goose Down
DROP TABLE positions;
DROP TABLE annotations;
DROP TABLE memberships;
DROP TABLE rooms;
DROP TABLE upgrades;
DROP TABLE published;
DROP TABLE aliases;
