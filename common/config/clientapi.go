package config

// ClientAPI is the section client_api.
type ClientAPI struct{}
