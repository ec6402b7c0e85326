// Package config reads the settings of `replicad run`: from flags, from the
// environment, from a file, and from defaults, in this order. One declaration
// makes a key of all four: the flag --repl-timeout is the variable
// REPLICAD_REPL_TIMEOUT and the key repl-timeout of the file.
//
// The file is YAML. Its keys are those of the flags, and masters: a list of
// what is followed, each with keys of its own:
//
//	dir: /var/lib/replicad
//	masterauth-file: /run/secrets/masterauth
//	masters:
//	  - name: main
//	    replicaof: 10.0.0.1:6379
//	  - name: cache
//	    replicaof: rediss://10.0.0.2:6380
//	    masterauth-file: /run/secrets/cache
//
// What stands outside of masters, or comes from a flag or a variable, holds for
// each master that has no value of its own.
//
// A new key is one line in keys.go, in the declare method of [Settings], or of
// [Master] where masters may differ, and one in cmd/replicad/replicad.yml,
// which a test compares with the code.
//
// Layers are put upon each other by koanf; YAML is read by go.yaml.in/yaml,
// whose nodes know their lines. What is wrong is told in full, each with where
// it stands: see [Problems].
package config
