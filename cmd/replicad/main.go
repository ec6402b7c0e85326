// Replicad is a standalone Redis replica that keeps no dataset in memory: it
// writes the full sync and the replication stream to disk, in the format that
// redis-server loads.
package main

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"replicad/replica/archive"
	"replicad/replica/archive/redisserver"
	"replicad/replica/archive/restore"
	"replicad/replica/config"
	"replicad/replica/daemon"
	"replicad/replica/httpport"
	"replicad/replica/remote"
	"replicad/replica/respport"
	"replicad/replica/units"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK    = 0
	exitError = 1 // it ran, and failed
	exitUsage = 2 // wrong flags, or what they name can't be used
)

// usageError is an error that ends the program with exit code 2.
type usageError struct {
	err  error
	help string // the command whose --help tells more; "" for none
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// exitCode ends the program without a message: the command has printed all.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "replicad",
		Short:         "A Redis replica that writes to disk what redis-server loads",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       thisBuild().Version,
		RunE:          showHelp,
	}
	root.SetVersionTemplate(thisBuild().String())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if words := cmd.Flags().Args(); cmd.HasSubCommands() && len(words) > 0 {
			return noArguments(cmd, words) // the flags are those of a command that is none
		}
		return usageError{badFlag(cmd, err), cmd.CommandPath()}
	})
	root.AddCommand(runCommand(), listCommand(), pruneCommand(), verifyCommand(), restoreCommand(), tailCommand(), serveCommand(), healthcheckCommand(), probeCommand(), studyCommand(), demoCommand(), configCommand(), versionCommand())
	finish(root, stdout)
	root.SetArgs(yesOrNo(root, args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var code exitCode
	if err != nil && !errors.As(err, &code) {
		fmt.Fprint(stderr, complaint(err))
	}
	return codeOf(err)
}

// yesOrNo joins a flag and the word behind it where redis.conf has yes or no
// there: --relay yes. The parser of flags takes only --relay and --relay=yes.
func yesOrNo(root *cobra.Command, args []string) (joined []string) {
	cmd, _, err := root.Find(args)
	if err != nil {
		return args
	}
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			return append(joined, args[i:]...)
		}
		name, long := strings.CutPrefix(word, "--")
		f := cmd.Flags().Lookup(name)
		if long && f != nil && f.NoOptDefVal == "true" && i+1 < len(args) && (args[i+1] == "yes" || args[i+1] == "no") {
			i++
			word += "=" + strconv.FormatBool(args[i] == "yes")
		}
		joined = append(joined, word)
	}
	return joined
}

// codeOf maps the error of a command to the exit code of the program.
func codeOf(err error) int {
	var code exitCode
	var usage usageError
	var problems config.Problems
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage), errors.As(err, &problems):
		return exitUsage
	}
	for _, unusable := range []error{
		daemon.ErrSetup, respport.ErrListen, httpport.ErrListen,
		archive.ErrUnavailable, archive.ErrDamaged, restore.ErrNotEmpty, restore.ErrBusy,
		remote.ErrMissing, remote.ErrDamaged, redisserver.ErrNotFound, redisserver.ErrTooOld,
	} {
		if errors.Is(err, unusable) {
			return exitUsage
		}
	}
	return exitError
}

// badFlag is badValue, and asks of an unknown flag whether another was meant.
func badFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return badValue(err)
	}
	name, names := cmp.Or(unknown.GetSpecifiedShortnames(), unknown.GetSpecifiedName()), []string(nil)
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if name = units.Nearest(name, names); name == "" {
		return err
	}
	return fmt.Errorf("%w: did you mean --%s?", err, name)
}

// badValue makes the flags' error about a value read like the error about the
// value of a variable or of a key of the file.
func badValue(err error) error {
	var bad *pflag.InvalidValueError
	var number *strconv.NumError // says nothing by itself
	if !errors.As(err, &bad) || errors.As(err, &number) {
		return err
	}
	return fmt.Errorf("--%s: %w", bad.GetFlag().Name, bad.Unwrap())
}

// complaint is what the program prints of an error. A problem of the settings
// file begins with the file's name and the line, as compilers have it.
func complaint(err error) string {
	var problems config.Problems
	var usage usageError
	var lines strings.Builder
	if !errors.As(err, &problems) {
		fmt.Fprintf(&lines, "replicad: %v\n", err)
	}
	for _, p := range problems {
		if p.Origin.Layer != config.File {
			lines.WriteString("replicad: ")
		}
		lines.WriteString(p.String() + "\n")
	}
	if errors.As(err, &usage) && usage.help != "" {
		fmt.Fprintf(&lines, "See '%s --help'.\n", usage.help)
	}
	return lines.String()
}

// help has a text for each command, which is named as the command's path:
// what --help says, a line "Examples:", and examples.
//
//go:embed help
var help embed.FS

// finish gives a command, and all below it, its help and what its flags may be.
// A command takes no arguments, unless it says which it takes.
func finish(cmd *cobra.Command, stdout io.Writer) {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	if text, err := help.ReadFile("help/" + name + ".txt"); err == nil {
		cmd.Long, cmd.Example, _ = strings.Cut(strings.TrimSpace(string(text)), "\n\nExamples:\n")
	}
	if cmd.Args == nil {
		cmd.Args = noArguments
	}
	completeValues(cmd)
	groupFlags(cmd, stdout)
	for _, sub := range cmd.Commands() {
		finish(sub, stdout)
	}
}

// noArguments refuses arguments that are no flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usageError{fmt.Errorf("unknown argument %q", args[0]), cmd.CommandPath()}
	}
	cmd.SuggestionsMinimumDistance = 2
	err := fmt.Errorf("unknown command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w: did you mean %s %s?", err, cmd.CommandPath(), strings.Join(near, " or "))
	}
	return usageError{err, cmd.CommandPath()}
}

// showHelp is what a command does that has only others below it.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }
