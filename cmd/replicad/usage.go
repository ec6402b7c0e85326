package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"replicad/replica/config"
)

// flagsOfCobra is the part of cobra's template that lists a command's flags.
const flagsOfCobra = "Flags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}"

// groupFlags makes --help list the flags of run, where a command has them all, in the groups of the settings,
// and wrap at the terminal's width. The flags of a command's own come first.
func groupFlags(cmd *cobra.Command, stdout io.Writer) {
	if cmd.HasSubCommands() {
		return // which would inherit its list
	}
	cmd.InitDefaultHelpFlag()
	all := cmd.LocalFlags().Lookup("replicaof") != nil
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	sets, names := map[string]*pflag.FlagSet{}, []string{}
	grouped := map[string]string{}
	for _, k := range config.Keys() {
		grouped[k.Name] = k.Group
		if sets[k.Group] == nil {
			sets[k.Group] = pflag.NewFlagSet("", pflag.ContinueOnError)
			sets[k.Group].SortFlags = false
			names = append(names, k.Group)
		}
		if f := cmd.LocalFlags().Lookup(k.Name); f != nil && all {
			sets[k.Group].AddFlag(f)
		}
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if grouped[f.Name] == "" || !all {
			own.AddFlag(f)
		}
	})
	width := columns(stdout)
	text := "Flags:\n" + own.FlagUsagesWrapped(width)
	for _, name := range names {
		if sets[name].HasFlags() {
			text += "\n" + name + ":\n" + sets[name].FlagUsagesWrapped(width)
		}
	}
	text = strings.ReplaceAll(strings.TrimSpace(text), "{{", `{{"{{"}}`)
	cmd.SetUsageTemplate(strings.Replace(cmd.UsageTemplate(), flagsOfCobra, text, 1))
}
