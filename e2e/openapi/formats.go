package openapi

import (
	"fmt"
	"regexp"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// formats are those of the specification's data/string-formats.yaml.
// spec: appendices §common-identifier-format, §server-name, §unpadded-base64
func formats() []*jsonschema.Format {
	const server = `([0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?`
	var all []*jsonschema.Format
	for name, pattern := range map[string]string{
		"mx-user-id":                 `^@[^:\x00]*:` + server + `$`, // also of users with historical localparts
		"mx-event-id":                `^\$[^\x00]+$`,
		"mx-room-id":                 `^![^\x00]+$`,
		"mx-room-alias":              `^#[^:\x00]*:` + server + `$`,
		"mx-server-name":             `^` + server + `$`,
		"mx-mxc-uri":                 `^mxc://` + server + `/[0-9A-Za-z_-]+$`,
		"mx-unpadded-base64":         `^[0-9A-Za-z+/]*$`,
		"mx-urlsafe-unpadded-base64": `^[0-9A-Za-z_-]*$`,
	} {
		fits := regexp.MustCompile(pattern)
		all = append(all, &jsonschema.Format{Name: name, Validate: func(v any) error {
			if s, ok := v.(string); ok && !fits.MatchString(s) {
				return fmt.Errorf("%q is not like %s", s, fits)
			}
			return nil
		}})
	}
	return all
}
