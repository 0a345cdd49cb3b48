package config

// UserAPI is the section user_api.
type UserAPI struct{}
