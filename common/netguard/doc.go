// Package netguard keeps requests that strangers cause from the networks that only
// this server can reach: a URL that somebody asks for may name, or redirect to, or
// resolve to a machine behind the firewall.
//
// A Guard decides by the address that is about to be connected to, after names
// have been resolved, for every connection: what a name resolves to, or where a
// redirect leads, cannot be something else than what was checked. It owns nothing
// and asks nobody; it is safe for concurrent use.
package netguard
