package config

// RateLimiting is the section rate_limiting. A bucket fills with PerSecond
// requests a second up to Burst; a request over that is answered 429.
type RateLimiting struct {
	// Enabled turns all limits on or off.
	Enabled bool `yaml:"enabled"`
	// Request is for everything without a bucket of its own, per user.
	Request Rate `yaml:"request"`
	// Message is for sent events, per user.
	Message Rate `yaml:"message"`
	// Login is per address.
	Login Rate `yaml:"login"`
	// WrongPassword is for wrong passwords, per account; the addresses at which
	// its devices were last seen have buckets of their own.
	WrongPassword Rate `yaml:"wrong_password"`
	// Registration is for what makes accounts and tells whether names are taken, per
	// address.
	Registration Rate `yaml:"registration"`
	// Join is per user.
	Join Rate `yaml:"join"`
	// Invite is per user.
	Invite Rate `yaml:"invite"`
	// CreateRoom is per user.
	CreateRoom Rate `yaml:"create_room"`
	// Upload is for uploads and what is created for them, per user.
	Upload Rate `yaml:"upload"`
	// Download is for media and thumbnails, per user, or address where nobody is
	// logged in.
	Download Rate `yaml:"download"`
	// URLPreview is per user.
	URLPreview Rate `yaml:"url_preview"`
}

// Rate is what a bucket allows.
type Rate struct {
	// PerSecond is how many requests a second are allowed for long; zero means
	// no limit.
	PerSecond float64 `yaml:"per_second"`
	// Burst is how many may come at once.
	Burst int `yaml:"burst"`
}

func defaultRates() RateLimiting {
	return RateLimiting{
		Enabled:       true,
		Request:       Rate{PerSecond: 50, Burst: 200},
		Message:       Rate{PerSecond: 5, Burst: 50},
		Login:         Rate{PerSecond: 0.2, Burst: 10},
		WrongPassword: Rate{PerSecond: 0.02, Burst: 10},
		Registration:  Rate{PerSecond: 0.1, Burst: 10},
		Join:          Rate{PerSecond: 0.5, Burst: 20},
		Invite:        Rate{PerSecond: 0.5, Burst: 30},
		CreateRoom:    Rate{PerSecond: 0.1, Burst: 10},
		Upload:        Rate{PerSecond: 2, Burst: 50},
		Download:      Rate{PerSecond: 100, Burst: 1000},
		URLPreview:    Rate{PerSecond: 1, Burst: 30},
	}
}

// WrongPasswords returns what accounts bear; zero when rate limiting is off.
func (c *RateLimiting) WrongPasswords() Rate {
	if !c.Enabled {
		return Rate{}
	}
	return c.WrongPassword
}

// Buckets returns the rates by their names, which are those of httpapi.Limit;
// nil when rate limiting is off.
func (c *RateLimiting) Buckets() map[string]Rate {
	if !c.Enabled {
		return nil
	}
	return map[string]Rate{
		"request": c.Request, "message": c.Message, "login": c.Login, "registration": c.Registration,
		"join": c.Join, "invite": c.Invite, "create_room": c.CreateRoom, "upload": c.Upload, "download": c.Download, "url_preview": c.URLPreview,
	}
}
