-- +goose Up

-- How far each partition of each topic has been applied: the topic's identity,
-- the offset to read next and the last Seq of the records before it.
CREATE TABLE offsets (
    topic       TEXT   NOT NULL,
    part        BIGINT NOT NULL,
    topic_id    TEXT   NOT NULL,
    next_offset BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    PRIMARY KEY (topic, part)
);

-- The last position of each room and its members, as of the offsets.
CREATE TABLE rooms (
    room_id    TEXT   NOT NULL PRIMARY KEY,
    seq        BIGINT NOT NULL,
    joined     BIGINT NOT NULL,
    invited    BIGINT NOT NULL
);

-- Every change of the membership of a user of ours, by the Seq that made it.
CREATE TABLE memberships (
    user_id    TEXT   NOT NULL,
    room_id    TEXT   NOT NULL,
    seq        BIGINT NOT NULL,
    membership TEXT   NOT NULL,
    event_id   TEXT   NOT NULL,
    sender     TEXT   NOT NULL,
    stripped   TEXT   NOT NULL,
    PRIMARY KEY (user_id, room_id, seq)
);
CREATE INDEX memberships_room ON memberships (room_id, user_id, seq);

-- Events that relate to others. usable is 0 for replacements without new content.
CREATE TABLE relations (
    room_id  TEXT   NOT NULL,
    parent   TEXT   NOT NULL,
    rel_type TEXT   NOT NULL,
    event_id TEXT   NOT NULL,
    type     TEXT   NOT NULL,
    sender   TEXT   NOT NULL,
    ts       BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    sub      BIGINT NOT NULL,
    usable   BIGINT NOT NULL,
    PRIMARY KEY (room_id, parent, seq, sub, event_id)
);
CREATE INDEX relations_event ON relations (room_id, event_id);

-- Thread roots by their latest event.
CREATE TABLE threads (
    room_id TEXT   NOT NULL,
    root    TEXT   NOT NULL,
    seq     BIGINT NOT NULL,
    sub     BIGINT NOT NULL,
    PRIMARY KEY (room_id, root)
);
CREATE INDEX threads_latest ON threads (room_id, seq, sub);

-- The receipts in force, by the Seq of user.output that brought them.
CREATE TABLE receipts (
    room_id   TEXT   NOT NULL,
    user_id   TEXT   NOT NULL,
    type      TEXT   NOT NULL,
    thread_id TEXT   NOT NULL,
    event_id  TEXT   NOT NULL,
    ts        BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    PRIMARY KEY (room_id, user_id, type, thread_id)
);

-- The last change of each piece of a user's account data, and of forgotten rooms.
CREATE TABLE markers (
    user_id TEXT   NOT NULL,
    kind    TEXT   NOT NULL,
    room_id TEXT   NOT NULL,
    type    TEXT   NOT NULL,
    seq     BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind, room_id, type)
);

-- Unread counts as folded up to a Seq, for rooms with long unread stretches.
CREATE TABLE unread (
    user_id TEXT   NOT NULL,
    room_id TEXT   NOT NULL,
    seq     BIGINT NOT NULL,
    counts  TEXT   NOT NULL,
    PRIMARY KEY (user_id, room_id)
);

-- +goose Down
DROP TABLE unread;
DROP TABLE markers;
DROP TABLE receipts;
DROP TABLE threads;
DROP TABLE relations;
DROP TABLE memberships;
DROP TABLE rooms;
DROP TABLE offsets;
