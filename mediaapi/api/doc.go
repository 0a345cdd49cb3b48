// Package api is what other components know of the media-api: the methods by which
// media are looked through, quarantined, protected and deleted.
package api
