package api

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
)

// The methods around key backups. Version 0 stands for the current one, where
// that is allowed; 404 M_NOT_FOUND for those that are not there.
// spec: client-server-api §server-side-key-backups
var (
	NewKeyBackup    = rpc.NewMethod[NewKeyBackupRequest, KeyBackup](Service, "new_key_backup")
	QueryKeyBackup  = rpc.NewMethod[KeyBackupRequest, KeyBackup](Service, "key_backup").Harmless()
	PutKeyBackup    = rpc.NewMethod[PutKeyBackupRequest, struct{}](Service, "put_key_backup").Harmless()
	DeleteKeyBackup = rpc.NewMethod[KeyBackupRequest, struct{}](Service, "delete_key_backup").Harmless()
	// PutBackupKeys stores keys: 403 M_WRONG_ROOM_KEYS_VERSION for another version
	// than the current one.
	PutBackupKeys    = rpc.NewMethod[PutBackupKeysRequest, KeyBackup](Service, "put_backup_keys").Harmless()
	QueryBackupKeys  = rpc.NewMethod[BackupKeysRequest, BackupKeysResponse](Service, "backup_keys").Harmless()
	DeleteBackupKeys = rpc.NewMethod[BackupKeysRequest, KeyBackup](Service, "delete_backup_keys").Harmless()
)

// NewKeyBackupRequest describes a new version.
type NewKeyBackupRequest struct {
	UserID, Algorithm string
	AuthData          jsontext.Value
}

// KeyBackup describes a version. ETag grows with each change of its keys.
type KeyBackup struct {
	Version, ETag, Count int64
	Algorithm            string
	AuthData             jsontext.Value
}

// KeyBackupRequest names a version.
type KeyBackupRequest struct {
	UserID  string
	Version int64
}

// PutKeyBackupRequest replaces what is said of a version; its algorithm stays.
type PutKeyBackupRequest struct {
	UserID    string
	Version   int64
	Algorithm string
	AuthData  jsontext.Value
}

// BackupKey is a key in a backup.
type BackupKey struct {
	RoomID, SessionID string
	IsVerified        bool
	FirstMessageIndex int64
	ForwardedCount    int64
	SessionData       jsontext.Value
}

// PutBackupKeysRequest holds keys for a version.
type PutBackupKeysRequest struct {
	UserID  string
	Version int64
	Keys    []BackupKey
}

// BackupKeysRequest names keys of a version: all, those of a room, or one. What
// is asked for comes in parts, behind the last key of the part before.
type BackupKeysRequest struct {
	UserID                  string
	Version                 int64
	RoomID, SessionID       string
	AfterRoom, AfterSession string
}

// BackupKeysResponse holds keys by room and session; More tells that others follow.
type BackupKeysResponse struct {
	Keys []BackupKey
	More bool
}
