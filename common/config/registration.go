package config

// Registration is the section registration: who may make an account.
type Registration struct {
	// Open lets everyone who can reach the server make accounts.
	Open bool `yaml:"open"`
	// TokenRequired asks of everyone who registers for a token that an
	// administrator has made.
	TokenRequired bool `yaml:"token_required"`
	// GuestsOpen lets everyone make guest accounts.
	GuestsOpen bool `yaml:"guests_open"`
	// SharedSecret lets whoever knows it make accounts, also of
	// administrators, with create-account; "" turns that off.
	SharedSecret string `yaml:"shared_secret"`
	// SharedSecretFile is a file with SharedSecret.
	SharedSecretFile string `yaml:"shared_secret_file"`
	// Terms are what users have to agree to when they register.
	Terms []Terms `yaml:"terms"`
}

// Terms is a document that users agree to.
// spec: client-server-api §terms-of-service-at-registration
type Terms struct {
	// ID names the policy, for instance privacy_policy.
	ID string `yaml:"id"`
	// Version of the policy, for instance 1.0.
	Version string `yaml:"version"`
	// Language of the document, for instance en.
	Language string `yaml:"language"`
	// Name of the document in that language.
	Name string `yaml:"name"`
	// URL of the document.
	URL string `yaml:"url"`
}
