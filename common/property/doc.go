// Package property finds properties of JSON objects by the paths that the
// specification writes, such as content.body, without reading what is beside them.
//
// It owns no topic and no table and asks nobody.
package property
