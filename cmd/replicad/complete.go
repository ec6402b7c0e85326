package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"replicad/replica/archive"
	"replicad/replica/archive/restore"
	"replicad/replica/config"
	"replicad/replica/study"
)

// completeValues tells shells what the flags of a command, and of all below it,
// may be. (Files and folders they know by themselves.)
func completeValues(cmd *cobra.Command) {
	words := map[string][]string{}
	for _, k := range config.Keys() {
		words[k.Name] = k.Choices
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch values := words[f.Name]; {
		case f.Value.Type() == "bool":
		case len(values) > 0:
			complete(cmd, f.Name, values)
		case f.Name == "format" && cmd.Name() == "study":
			complete(cmd, f.Name, studyFormats())
		case f.Name == "states":
			complete(cmd, f.Name, study.StateFormats())
		case f.Name == "out" && cmd.Name() == "study", f.Name == "from":
			_ = cmd.MarkFlagFilename(f.Name)
		case f.Name == "format":
			complete(cmd, f.Name, []string{string(restore.Multipart), string(restore.AOF), string(restore.RDB)})
		case f.Name == "name":
			_ = cmd.RegisterFlagCompletionFunc(f.Name, completeName)
		case f.Name == "dir", f.Name == "out":
			_ = cmd.MarkFlagDirname(f.Name)
		case f.Name == config.ConfigFlag:
			_ = cmd.MarkFlagFilename(f.Name, "yml", "yaml")
		}
	})
	for _, sub := range cmd.Commands() {
		completeValues(sub)
	}
}

func complete(cmd *cobra.Command, flag string, values []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completeName gives the names of the archives below --dir.
func completeName(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	_ = config.Fill(cmd.Flags(), os.Environ())
	dir, err := cmd.Flags().GetString("dir")
	if err != nil || dir == "" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	masters, _ := archive.List(dir)
	for _, m := range masters {
		names = append(names, m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
