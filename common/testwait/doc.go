// Package testwait is how tests wait for what happens at another place: on a
// condition, not for a time. It decides nothing, keeps nothing and asks nobody.
package testwait
