-- +goose Up

-- Records of room.input of rooms that are set aside, whole, as they wait for the
-- room to be resumed: each room's in order of n, from 1. A room is set aside
-- exactly as long as there are any.
CREATE TABLE set_aside (
    room_id      TEXT NOT NULL,
    n            BIGINT NOT NULL,
    partition_id BIGINT NOT NULL,
    request_id   TEXT NOT NULL,
    answers      TEXT NOT NULL, -- JSON array: the partitions of room.answers that wait for the verdict
    record       BYTEA NOT NULL,
    PRIMARY KEY (room_id, n)
);
CREATE INDEX set_aside_partition ON set_aside (partition_id);

-- +goose Down
DROP TABLE set_aside;
