package gomatrixserverlib

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// level is a level in the content of m.room.power_levels.
type level struct {
	value int64
	kind  levelKind
}

type levelKind uint8

const (
	levelAbsent levelKind = iota
	levelMalformed
	levelOutOfRange // malformed too: a number that is no finite double
	levelOK
)

// unreadable reports whether the value is there and no level.
func (l level) unreadable() bool { return l.kind == levelMalformed || l.kind == levelOutOfRange }

func (l level) or(missing int64) int64 {
	if l.kind == levelOK {
		return l.value
	}
	return missing
}

// The properties of m.room.power_levels that are a level.
const (
	levelUsersDefault = iota
	levelEventsDefault
	levelStateDefault
	levelBan
	levelRedact
	levelKick
	levelInvite
	numLevels
)

// The properties of m.room.power_levels that map names to levels.
const (
	mapUsers = iota
	mapEvents
	mapNotifications
	numMaps
)

// levelName returns the name of a property.
func levelName(i int) string {
	return [numLevels]string{
		"users_default", "events_default", "state_default", "ban", "redact", "kick", "invite",
	}[i]
}

func mapName(i int) string { return [numMaps]string{"users", "events", "notifications"}[i] }

// levelContent is the content of m.room.power_levels.
type levelContent struct {
	levels    [numLevels]level
	maps      [numMaps]map[string]level
	notObject [numMaps]bool // the property is there and no object
}

// parseLevelContent reads the content of an m.room.power_levels event. What is
// malformed is marked.
func parseLevelContent(content []byte, rules *VersionRules) levelContent {
	var c levelContent
	for m := membersOf(content); ; {
		key, start, end, ok := m.next()
		if !ok {
			return c
		}
		value := content[start:end]
		switch string(key) {
		case "users":
			c.setMap(mapUsers, value, rules)
		case "events":
			c.setMap(mapEvents, value, rules)
		case "notifications":
			c.setMap(mapNotifications, value, rules)
		default:
			for i := range numLevels {
				if string(key) == levelName(i) {
					c.levels[i] = parseLevel(value, rules)
				}
			}
		}
	}
}

func (c *levelContent) setMap(i int, object []byte, rules *VersionRules) {
	if !isObject(object) {
		c.notObject[i] = true
		return
	}
	c.maps[i] = make(map[string]level)
	for m := membersOf(object); ; {
		key, start, end, ok := m.next()
		if !ok {
			return
		}
		c.maps[i][keyOf(key)] = parseLevel(object[start:end], rules)
	}
}

// keyOf decodes what stands between the quotes of a member's key.
func keyOf(key []byte) string {
	if bytes.IndexByte(key, '\\') < 0 {
		return string(key)
	}
	return string(appendUnescaped(make([]byte, 0, len(key)), key))
}

// parseLevel reads a level: an integer; up to room version 9 a string of one
// too, up to room version 5 any number.
// spec: rooms/v1 §deprecated-event-content-schemas, rooms/v10 §event-format
func parseLevel(raw []byte, rules *VersionRules) level {
	if n, ok := int64Of(raw); ok {
		if rules.IntegerPowerLevels && (n > maxInteger || n < -maxInteger) {
			return level{kind: levelMalformed}
		}
		return level{value: n, kind: levelOK}
	}
	switch {
	case rules.IntegerPowerLevels:
	case isString(raw):
		if text, ok := stringOf(raw); ok {
			return parseStringLevel(text)
		}
	case !rules.StrictJSON:
		return parseFloatLevel(raw)
	}
	return level{kind: levelMalformed}
}

// parseStringLevel reads white space, a sign, digits, white space. What does
// not fit in 64 bits counts as the largest or smallest number that does.
func parseStringLevel(text string) level {
	text = strings.TrimFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f // the separators of ASCII
	})
	digits := strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(text, "+"), "-"), "0123456789")
	if digits != "" || strings.HasPrefix(text, "+-") {
		return level{kind: levelMalformed}
	}
	// On a range error ParseInt gives the nearest number.
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && !isRangeError(err) {
		return level{kind: levelMalformed}
	}
	return level{value: n, kind: levelOK}
}

func isRangeError(err error) bool {
	numError, ok := err.(*strconv.NumError)
	return ok && numError.Err == strconv.ErrRange
}

// parseFloatLevel reads a number with fraction or exponent, or one of more
// than 64 bits, and cuts it at the decimal point.
func parseFloatLevel(raw []byte) level {
	if len(raw) == 0 || len(bytes.Trim(raw, "0123456789+-.eE")) != 0 {
		return level{kind: levelMalformed}
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsInf(f, 0) {
		return level{kind: levelOutOfRange}
	}
	switch f = math.Trunc(f); {
	case f >= math.MaxInt64:
		return level{value: math.MaxInt64, kind: levelOK}
	case f <= math.MinInt64:
		return level{value: math.MinInt64, kind: levelOK}
	}
	return level{value: int64(f), kind: levelOK}
}
