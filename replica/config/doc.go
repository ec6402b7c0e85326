// Package config reads the settings of `replicad run`: from flags, from
// variables, from a file, and from defaults. A flag goes before a variable, a
// variable before the file, and the file before the default.
//
// One row of the table in keys.go makes a key of all four: the flag
// --repl-timeout is the variable REPLICAD_REPL_TIMEOUT and the key repl-timeout
// of the file. A new key is one row there, and one line in
// cmd/replicad/replicad.yml, which a test compares with the table.
//
// The file is YAML. Its keys are those of the flags, and masters: a list of the
// masters to follow, each with keys of its own:
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
// A key outside of masters, a variable or a flag holds for each master that has
// no value of its own. A master's own value goes before all others.
//
// [Load] reports every problem, not only the first, each with the place where
// the wrong value stands: see [Problems].
package config
