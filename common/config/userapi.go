package config

import "time"

// UserAPI is the section user_api.
type UserAPI struct {
	// AccessTokenLifetime is how long access tokens of clients that can refresh
	// them are good; zero means 1h. Others do not expire.
	AccessTokenLifetime time.Duration `yaml:"access_token_lifetime"`
	// MaxDevices bounds the devices of an account; zero means 1000.
	MaxDevices int `yaml:"max_devices"`
}

// Defaults fills in what was left out.
func (c *UserAPI) Defaults() {
	if c.AccessTokenLifetime == 0 {
		c.AccessTokenLifetime = time.Hour
	}
	if c.MaxDevices == 0 {
		c.MaxDevices = 1000
	}
}
