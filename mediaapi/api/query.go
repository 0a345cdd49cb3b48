package api

import (
	"strings"

	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// Service is the media-api's name in rpc.
const Service = "mediaapi"

// The methods of the media-api. Whoever calls them has made sure that it may.
var (
	// QueryUserMedia lists what a local user has uploaded, newest first.
	QueryUserMedia = rpc.NewMethod[UserMediaRequest, UserMediaResponse](Service, "user_media").Harmless()
	// Quarantine keeps media from everybody, or gives them back. By hash or server
	// it also keeps out what would come later.
	Quarantine = rpc.NewMethod[QuarantineRequest, ChangedResponse](Service, "quarantine")
	// Protect keeps media from being removed for their age, or no longer does.
	Protect = rpc.NewMethod[ProtectRequest, ChangedResponse](Service, "protect")
	// Delete deletes media. The bytes go with the last that has them.
	Delete = rpc.NewMethod[DeleteRequest, ChangedResponse](Service, "delete")
)

// Selection chooses media by one of its members.
type Selection struct {
	URIs   []string // mxc://…, at most 1,000; those that are none are ignored
	UserID string
	Hash   string // SHA-256, in hexadecimal
	Server string // from which the media are
}

// Media describes media.
type Media struct {
	URI         string `json:"uri"`
	UserID      string `json:"user_id,omitzero"`
	CreatedTS   int64  `json:"created_ts"`
	AccessedTS  int64  `json:"last_access_ts"`
	ContentType string `json:"content_type,omitzero"`
	Filename    string `json:"filename,omitzero"`
	Size        int64  `json:"size"`
	// Hash is "" while nothing has been uploaded.
	Hash        string `json:"sha256,omitzero"`
	Quarantined bool   `json:"quarantined,omitzero"`
	Protected   bool   `json:"protected,omitzero"`
}

// UserMediaRequest names a local user.
type UserMediaRequest struct {
	UserID string
	// From is Next of an earlier answer, or "".
	From string
	// Limit is at most 1,000; zero means 100.
	Limit int
}

// UserMediaResponse is a page.
type UserMediaResponse struct {
	Media []Media
	Next  string // "" at the end
	// Bytes is the sum over all pages.
	Bytes int64
}

// QuarantineRequest chooses media, and what becomes of them.
type QuarantineRequest struct {
	Selection   Selection
	Quarantined bool
}

// ProtectRequest chooses media, and what becomes of them.
type ProtectRequest struct {
	Selection Selection
	Protected bool
}

// DeleteRequest chooses media.
type DeleteRequest struct{ Selection Selection }

// ChangedResponse tells how many media are otherwise than before.
type ChangedResponse struct{ Count int64 }

const scheme = "mxc://"

// URI is the mxc:// URI of media.
func URI(server, mediaID string) string { return scheme + server + "/" + mediaID }

// FindURIs returns the mxc:// URIs that stand in a text, such as an event, each once.
func FindURIs(text string) (out []string) {
	seen := map[string]bool{}
	for {
		_, rest, ok := strings.Cut(text, scheme)
		if !ok {
			return out
		}
		end := strings.IndexAny(rest, "\"\\ \t\r\n<>'?#")
		if end < 0 {
			end = len(rest)
		}
		text = rest
		if uri := scheme + rest[:end]; !seen[uri] {
			if _, _, err := gomatrixserverlib.ParseMXC(uri); err == nil {
				seen[uri] = true
				out = append(out, uri)
			}
		}
	}
}
