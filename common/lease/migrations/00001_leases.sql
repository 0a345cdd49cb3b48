-- +goose Up
-- A row for each partition that a group of instances consumes (design rule 3).
-- Times are milliseconds by this database's clock.
CREATE TABLE lease_partitions (
    group_name TEXT NOT NULL,
    number BIGINT NOT NULL,
    owner TEXT NOT NULL,         -- '' when nobody has it
    address TEXT NOT NULL,       -- where the owner answers queries
    epoch BIGINT NOT NULL,       -- grows with each owner: the fence
    expiry BIGINT NOT NULL,
    next_offset BIGINT NOT NULL, -- -1 before the first commit
    topic_id TEXT NOT NULL,      -- '' before the first commit
    PRIMARY KEY (group_name, number)
);
-- The instances that are there, to share partitions among.
CREATE TABLE lease_members (
    group_name TEXT NOT NULL,
    owner TEXT NOT NULL,
    expiry BIGINT NOT NULL,
    PRIMARY KEY (group_name, owner)
);
