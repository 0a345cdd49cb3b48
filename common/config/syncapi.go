package config

// SyncAPI is the section sync_api.
type SyncAPI struct{}
