package config

// Directory is the section directory.
type Directory struct{}
