package config

import (
	"strings"
	"time"
)

// Calls is the part calls of client_api: what clients need to reach each other
// with sound and pictures.
type Calls struct {
	// TURNURIs are the TURN servers, for instance
	// turn:turn.example.org:3478?transport=udp; none are told when there are none.
	TURNURIs []string `yaml:"turn_uris"`
	// TURNSecret is what the TURN server shares with this one (coturn's
	// static-auth-secret): each user gets a name and a password of their own, which
	// are good for a time.
	TURNSecret string `yaml:"turn_secret"`
	// TURNSecretFile is a file with TURNSecret.
	TURNSecretFile string `yaml:"turn_secret_file"`
	// TURNUsername and TURNPassword are what everybody gets instead, where there is
	// no TURNSecret.
	TURNUsername string `yaml:"turn_username"`
	TURNPassword string `yaml:"turn_password"`
	// TURNPasswordFile is a file with TURNPassword.
	TURNPasswordFile string `yaml:"turn_password_file"`
	// TURNLifetime is how long a password is good; zero means 24h.
	TURNLifetime time.Duration `yaml:"turn_lifetime"`
	// LiveKitServiceURLs are the services that let users of this server into a
	// LiveKit server, for calls of many (MatrixRTC).
	LiveKitServiceURLs []string `yaml:"livekit_service_urls"`
}

// Defaults fills in what was left out.
func (c *Calls) Defaults() {
	if c.TURNLifetime == 0 {
		c.TURNLifetime = 24 * time.Hour
	}
}

func (c *Calls) validate(p *problems) {
	for _, uri := range c.TURNURIs {
		if rest, ok := strings.CutPrefix(strings.Replace(uri, "turns:", "turn:", 1), "turn:"); !ok || rest == "" {
			p.add("client_api.calls.turn_uris", "%q does not begin with turn: or turns:", uri)
		}
	}
	if len(c.TURNURIs) > 0 && c.TURNSecret == "" && (c.TURNUsername == "" || c.TURNPassword == "") {
		p.add("client_api.calls.turn_uris", "need turn_secret, or turn_username and turn_password")
	}
	if c.TURNLifetime < time.Minute {
		p.add("client_api.calls.turn_lifetime", "is less than a minute")
	}
	for _, url := range c.LiveKitServiceURLs {
		p.url("client_api.calls.livekit_service_urls", url)
	}
}
