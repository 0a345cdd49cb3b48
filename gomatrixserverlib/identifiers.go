package gomatrixserverlib

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

func badID(kind, why string) error { return fmt.Errorf("%w: %s: %s", ErrBadIdentifier, kind, why) }

// splitID takes "&localpart:domain" apart, checks its length, its UTF-8 and
// its domain.
func splitID(kind string, sigil byte, s string) (localpart, domain string, err error) {
	if len(s) > MaxIDBytes {
		return "", "", badID(kind, "longer than 255 bytes")
	}
	if s == "" || s[0] != sigil {
		return "", "", badID(kind, "does not begin with "+string(sigil))
	}
	localpart, domain, ok := strings.Cut(s[1:], ":")
	if !ok {
		return "", "", badID(kind, "has no server name")
	}
	if !utf8.ValidString(localpart) || strings.IndexByte(localpart, 0) >= 0 {
		return "", "", badID(kind, "has a NUL or is not UTF-8")
	}
	if !ValidServerName(domain) {
		return "", "", badID(kind, "has a bad server name")
	}
	return localpart, domain, nil
}

// domainOf returns what stands behind an identifier's first colon.
func domainOf(id string) string {
	_, domain, _ := strings.Cut(id, ":")
	return domain
}

// ServerOf returns the server name of a user ID, room alias or other
// identifier that has one, unchecked; empty if it has none.
func ServerOf(id string) string { return domainOf(id) }

// ParseUserID takes a user ID of today's grammar apart.
// spec: appendices §user-identifiers
func ParseUserID(s string) (localpart, server string, err error) {
	localpart, server, err = splitID("user ID", '@', s)
	if err != nil {
		return "", "", err
	}
	if !validLocalpart(localpart) {
		return "", "", badID("user ID", "localpart is empty or has a character that is not allowed")
	}
	return localpart, server, nil
}

// ParseHistoricalUserID takes a user ID apart whose localpart may be empty and
// have any characters but colon and NUL, as found in events.
// spec: appendices §historical-user-ids
func ParseHistoricalUserID(s string) (localpart, server string, err error) {
	return splitID("user ID", '@', s)
}

// CompliantUserID reports whether a user ID may be shown to clients outside
// events: its localpart is not empty and has only U+0021 to U+007E.
// spec: appendices §historical-user-ids
func CompliantUserID(s string) bool {
	localpart, _, err := ParseHistoricalUserID(s)
	if err != nil || localpart == "" {
		return false
	}
	for i := 0; i < len(localpart); i++ {
		if localpart[i] < 0x21 || localpart[i] > 0x7e {
			return false
		}
	}
	return true
}

// ValidNewLocalpart reports whether a user may be registered with that
// localpart on that server.
func ValidNewLocalpart(localpart, server string) bool {
	return validLocalpart(localpart) && len("@")+len(localpart)+len(":")+len(server) <= MaxIDBytes
}

func validLocalpart(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-.=_/+", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// ParseRoomID takes a room ID of any room version apart; the server is empty
// from room version 12 on.
// spec: appendices §room-ids
func ParseRoomID(s string) (opaque, server string, err error) {
	if strings.IndexByte(s, ':') >= 0 {
		return splitID("room ID", '!', s)
	}
	if s == "" || s[0] != '!' || !isHash(s[1:], '-', '_') {
		return "", "", badID("room ID", "neither !opaque:server nor the hash of an event")
	}
	return s[1:], "", nil
}

// ParseRoomAlias takes a room alias apart.
// spec: appendices §room-aliases
func ParseRoomAlias(s string) (localpart, server string, err error) {
	return splitID("room alias", '#', s)
}

// ParseEventID takes an event ID of any room version apart; the server is
// empty from room version 3 on.
// spec: appendices §event-ids
func ParseEventID(s string) (opaque, server string, err error) {
	if strings.IndexByte(s, ':') >= 0 {
		return splitID("event ID", '$', s)
	}
	if s == "" || s[0] != '$' || !isHash(s[1:], '-', '_') && !isHash(s[1:], '+', '/') {
		return "", "", badID("event ID", "neither $opaque:server nor a hash")
	}
	return s[1:], "", nil
}

// CheckEventID checks an event ID against the format of a room version.
func CheckEventID(s string, v RoomVersion) error {
	rules := v.Rules()
	if rules == nil {
		return fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, v)
	}
	return checkEventIDOf(s, rules)
}

func checkEventIDOf(s string, rules *VersionRules) error {
	ok := false
	switch rules.EventIDFormat {
	case EventIDGiven:
		_, _, err := splitID("event ID", '$', s)
		return err
	case EventIDBase64:
		ok = strings.HasPrefix(s, "$") && isHash(s[1:], '+', '/')
	case EventIDURLSafe:
		ok = strings.HasPrefix(s, "$") && isHash(s[1:], '-', '_')
	}
	if !ok {
		return badID("event ID", "not a hash")
	}
	return nil
}

// CheckRoomID checks a room ID against the format of a room version.
func CheckRoomID(s string, v RoomVersion) error {
	rules := v.Rules()
	if rules == nil {
		return fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, v)
	}
	return checkRoomIDOf(s, rules)
}

func checkRoomIDOf(s string, rules *VersionRules) error {
	if !rules.RoomIDFromCreate {
		_, _, err := splitID("room ID", '!', s)
		return err
	}
	if !strings.HasPrefix(s, "!") || !isHash(s[1:], '-', '_') {
		return badID("room ID", "not the hash of an event")
	}
	return nil
}

// isHash reports whether s is a SHA-256 in unpadded base64 whose last two
// characters of the alphabet are given.
func isHash(s string, c62, c63 byte) bool {
	if len(s) != 43 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && c != c62 && c != c63 {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// ParseServerName takes a server name apart: the host is a DNS name, an IPv4
// address, or an IPv6 address in brackets; the port is empty if there is none.
// spec: appendices §server-name
func ParseServerName(s string) (host, port string, err error) {
	if len(s) > MaxServerNameBytes {
		return "", "", badID("server name", "too long")
	}
	host = s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
		if !validPort(port) {
			return "", "", badID("server name", "has a bad port")
		}
	}
	if !validHost(host) {
		return "", "", badID("server name", "has a bad host")
	}
	return host, port, nil
}

// ValidServerName reports whether s is a server name.
func ValidServerName(s string) bool {
	_, _, err := ParseServerName(s)
	return err == nil
}

func validPort(s string) bool {
	if len(s) < 1 || len(s) > 5 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	n, err := strconv.Atoi(s)
	return err == nil && n <= 65535
}

func validHost(s string) bool {
	if strings.HasPrefix(s, "[") {
		inner, ok := strings.CutSuffix(s[1:], "]")
		addr, err := netip.ParseAddr(inner)
		return ok && err == nil && addr.Is6() && addr.Zone() == ""
	}
	dotsAndDigits := true
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !isAlphanumeric(c) && c != '-' && c != '.' {
			return false
		}
		dotsAndDigits = dotsAndDigits && (c == '.' || c >= '0' && c <= '9')
	}
	if dotsAndDigits && strings.Count(s, ".") == 3 {
		return validIPv4(s)
	}
	// No empty labels, but for a dot at the end: no server has such a name, and
	// it cannot be mistaken for a path.
	return s != "" && s[0] != '.' && !strings.Contains(s, "..")
}

// validIPv4 checks four decimal numbers of at most 255; unlike netip it lets
// zeros lead, as the grammar does.
func validIPv4(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || len(part) > 3 || n > 255 {
			return false
		}
	}
	return true
}

// ParseMXC takes a content URI mxc://server/mediaID apart.
// spec: client-server-api §matrix-content-mxc-uris
func ParseMXC(s string) (server, mediaID string, err error) {
	rest, ok := strings.CutPrefix(s, "mxc://")
	if !ok {
		return "", "", badID("content URI", "does not begin with mxc://")
	}
	server, mediaID, ok = strings.Cut(rest, "/")
	if !ok || !ValidServerName(server) {
		return "", "", badID("content URI", "has a bad server name")
	}
	if !ValidMediaID(mediaID) {
		return "", "", badID("content URI", "has a bad media ID")
	}
	return server, mediaID, nil
}

// ValidMediaID reports whether s is a media ID: 1 to 255 characters A-Z, a-z,
// 0-9, - and _.
// spec: client-server-api §content-repository
func ValidMediaID(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= MaxIDBytes
}

// ValidOpaqueID reports whether s follows the grammar of opaque identifiers.
// spec: appendices §opaque-identifiers
func ValidOpaqueID(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && strings.IndexByte("-._~", c) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= MaxIDBytes
}

// ValidNamespacedID reports whether s follows the common namespaced identifier
// grammar.
// spec: appendices §common-namespaced-identifier-grammar
func ValidNamespacedID(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		lower := c >= 'a' && c <= 'z'
		if !lower && (i == 0 || !(c >= '0' && c <= '9') && strings.IndexByte("-_.", c) < 0) {
			return false
		}
	}
	return s != "" && len(s) <= MaxIDBytes
}

// ParseKeyID checks a server's signing key identifier: an algorithm, a colon
// and a version of letters, digits and underscores.
// spec: server-server-api §retrieving-server-keys
func ParseKeyID(id KeyID) error {
	algorithm, version, ok := strings.Cut(string(id), ":")
	if !ok || algorithm == "" || version == "" || len(id) > MaxIDBytes {
		return badID("key ID", "not algorithm:version")
	}
	for i := 0; i < len(algorithm); i++ {
		if c := algorithm[i]; !isAlphanumeric(c) && c != '_' {
			return badID("key ID", "algorithm has a character that is not allowed")
		}
	}
	for i := 0; i < len(version); i++ {
		if c := version[i]; !isAlphanumeric(c) && c != '_' {
			return badID("key ID", "version has a character that is not allowed")
		}
	}
	return nil
}
