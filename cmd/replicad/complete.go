package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"replicad/replica/archive"
	"replicad/replica/archive/restore"
	"replicad/replica/config"
	"replicad/replica/study"
	"replicad/replica/tail"
)

// completeValues tells shells what the flags of a command may be. (Files and
// folders they know by themselves.)
func completeValues(cmd *cobra.Command) {
	words := map[string][]string{
		"states": study.StateFormats(),
		"format": {string(restore.Multipart), string(restore.AOF), string(restore.RDB)},
	}
	switch cmd.Name() {
	case "study":
		words["format"] = studyFormats()
	case "tail":
		words["format"] = tail.Formats()
	}
	for _, k := range config.Keys() {
		words[k.Name] = k.Choices
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Value.Type() == "bool":
		case len(words[f.Name]) > 0:
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words[f.Name], cobra.ShellCompDirectiveNoFileComp))
		case f.Name == "name":
			_ = cmd.RegisterFlagCompletionFunc(f.Name, completeName)
		case f.Name == config.ConfigFlag:
			_ = cmd.MarkFlagFilename(f.Name, "yml", "yaml")
		case f.Name == "dir", f.Name == "out" && cmd.Name() == "restore":
			_ = cmd.MarkFlagDirname(f.Name)
		}
	})
}

// completeName gives the names of the archives below --dir.
func completeName(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	_ = config.Fill(cmd.Flags(), os.Environ())
	dir := cmd.Flags().Lookup("dir").Value.String()
	if dir == "" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	masters, _ := archive.List(dir)
	for _, m := range masters {
		names = append(names, m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
