// Package config reads dendrite-config.yaml: every option documented at its
// field, unknown keys an error that names line and key, values also from
// environment variables (DENDRITE_<SECTION>_<KEY>) and from secret files.
//
// It owns no topic and no table; a loaded configuration does not change.
package config
