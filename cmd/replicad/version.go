package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by whoever builds a release: -ldflags "-X main.version=1.2.3".
var version string

// build is what is known of how the binary was built, as JSON has it.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"` // of the commit, RFC 3339
	Dirty    bool   `json:"dirty"`          // files differed from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisBuild asks the binary.
func thisBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return described(version, info)
}

// described puts together what the linker was told and what the compiler wrote.
func described(version string, info *debug.BuildInfo) build {
	vcs := map[string]string{}
	for _, s := range info.Settings {
		vcs[s.Key] = s.Value
	}
	return build{
		Version: cmp.Or(version, info.Main.Version, "unknown"),
		Commit:  vcs["vcs.revision"], Date: vcs["vcs.time"], Dirty: vcs["vcs.modified"] == "true",
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// String is what people read: a line for each.
func (b build) String() string {
	commit := cmp.Or(b.Commit, "unknown")
	if b.Dirty {
		commit += ", with changes"
	}
	return fmt.Sprintf("replicad %s\ncommit    %s\ndate      %s\ngo        %s\nplatform  %s\n",
		b.Version, commit, cmp.Or(b.Date, "unknown"), b.Go, b.Platform)
}

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which replicad this is",
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), b)
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), b)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
