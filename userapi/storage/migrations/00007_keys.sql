-- +goose Up
-- What devices have uploaded of their identity keys, as they did.
CREATE TABLE device_keys (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    keys TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id)
);
-- A row for each device that has uploaded one-time or fallback keys: who uploads,
-- claims or deletes them takes turns by it. uploads counts uploads.
CREATE TABLE key_turns (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    uploads BIGINT NOT NULL,
    PRIMARY KEY (user_id, device_id)
);
-- upload is the number of the upload; claimed_ts is 0 or when the key was given
-- out. A key stays for some time after that, so that the retry of an upload does
-- not bring it back.
CREATE TABLE one_time_keys (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id TEXT NOT NULL,
    upload BIGINT NOT NULL,
    claimed_ts BIGINT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id, algorithm, key_id)
);
CREATE INDEX one_time_keys_next ON one_time_keys (user_id, device_id, algorithm, upload, key_id) WHERE claimed_ts = 0;
CREATE INDEX one_time_keys_claimed ON one_time_keys (claimed_ts) WHERE claimed_ts > 0;
CREATE TABLE fallback_keys (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id TEXT NOT NULL,
    used BOOLEAN NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id, algorithm)
);
-- usage is master, self_signing or user_signing; public is the key in base64.
CREATE TABLE cross_signing_keys (
    user_id TEXT NOT NULL,
    usage TEXT NOT NULL,
    public TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (user_id, usage)
);
-- Signatures that were uploaded by themselves: of a user's device (key_id is its
-- ID) or master key (its public part). All of them were verified.
CREATE TABLE key_signatures (
    user_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signer_id TEXT NOT NULL,
    signer_key TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (user_id, key_id, signer_id, signer_key)
);
CREATE INDEX key_signatures_signer ON key_signatures (signer_id, signer_key);
-- Messages to devices that have not acknowledged them. seq is that of the change
-- of user.output that tells of it, which is the user's own.
CREATE TABLE to_device (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    sender TEXT NOT NULL,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id, seq)
);
-- Requests that sent such messages, by the device that sent them.
CREATE TABLE to_device_sent (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    created_ts BIGINT NOT NULL,
    PRIMARY KEY (user_id, device_id, request_id)
);
CREATE INDEX to_device_sent_created ON to_device_sent (created_ts);
CREATE TABLE dehydrated_devices (
    user_id TEXT PRIMARY KEY,
    device_id TEXT NOT NULL,
    data TEXT NOT NULL
);
-- Versions of key backups; those deleted keep their number.
CREATE TABLE key_backups (
    user_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    algorithm TEXT NOT NULL,
    auth_data TEXT NOT NULL,
    etag BIGINT NOT NULL,
    keys BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    PRIMARY KEY (user_id, version)
);
CREATE TABLE key_backup_keys (
    user_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    is_verified BOOLEAN NOT NULL,
    first_message_index BIGINT NOT NULL,
    forwarded_count BIGINT NOT NULL,
    session_data TEXT NOT NULL,
    PRIMARY KEY (user_id, version, room_id, session_id)
);
