package config

import "path/filepath"

// Global is the section global: who the server is.
type Global struct {
	// ServerName is the part of user IDs and aliases behind the colon, for
	// instance example.org. It cannot be changed later. Needed.
	ServerName string `yaml:"server_name"`
	// DataDir is the folder of everything that the server stores.
	DataDir string `yaml:"data_dir"`
	// PrivateKey is the file of the signing keys; "" means signing.key in
	// DataDir. It is made when it does not exist.
	PrivateKey string `yaml:"private_key"`
	// WellKnownClientBaseURL is what /.well-known/matrix/client tells clients
	// to talk to, for instance https://matrix.example.org; "" serves none.
	WellKnownClientBaseURL string `yaml:"well_known_client_base_url"`
	// WellKnownServerName is what /.well-known/matrix/server tells servers to
	// talk to, for instance matrix.example.org:443; "" serves none.
	WellKnownServerName string `yaml:"well_known_server_name"`
	// PolicyServerKey is what /.well-known/matrix/policy_server tells rooms that
	// want a policy server at this name: its ed25519 public key in unpadded base64;
	// "" serves none.
	PolicyServerKey string `yaml:"policy_server_key"`
	// Support says in /.well-known/matrix/support whom users can ask.
	Support Support `yaml:"support"`
}

// Support is whom users can ask for help.
// spec: client-server-api §getwell-knownmatrixsupport
type Support struct {
	// Email of the administrator; may be "".
	Email string `yaml:"email"`
	// MatrixID of the administrator; may be "".
	MatrixID string `yaml:"matrix_id"`
	// Page is the URL of a page for users who need help; may be "".
	Page string `yaml:"page"`
}

// Defaults fills in the paths that follow from others.
func (c *Global) Defaults() {
	if c.PrivateKey == "" {
		c.PrivateKey = filepath.Join(c.DataDir, "signing.key")
	}
}
