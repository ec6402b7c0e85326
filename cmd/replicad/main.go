// Replicad is a standalone Redis replica that keeps no dataset in memory: it
// writes the full sync and the replication stream to disk, in the format that
// redis-server loads.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"replicad/replica/config"
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

// exitCode ends the program without a word: all has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "replicad",
		Short: "A Redis replica that writes to disk what redis-server loads",
		Long: `replicad follows a Redis or Valkey master as a replica does, and keeps no dataset
in memory: it writes the full sync and the replication stream to disk, in the
format that redis-server loads. The result is a continuous, byte-exact backup.`,
		Example: `  replicad demo
  replicad run --replicaof 127.0.0.1:6379 --dir data
  replicad list --dir data
  redis-server --port 7000 --appendonly yes --dir COPY-OF/data/127.0.0.1-6379/generation-000001`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Version = thisBuild().Version
	root.SetVersionTemplate(thisBuild().String())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{badValue(err), cmd.CommandPath()}
	})
	root.AddCommand(runCommand(), listCommand(), pruneCommand(), verifyCommand(), restoreCommand(), healthcheckCommand(), probeCommand(), studyCommand(), demoCommand(), configCommand(), versionCommand())
	completeValues(root)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprint(stderr, complaint(err))
	var usage usageError
	if errors.As(err, &usage) {
		if usage.help != "" {
			fmt.Fprintf(stderr, "See '%s --help'.\n", usage.help)
		}
		return exitUsage
	}
	return exitError
}

// badValue makes of the flags' error about a value what is said of a variable
// and of a key of the file too.
func badValue(err error) error {
	var bad *pflag.InvalidValueError
	var number *strconv.NumError // says nothing by itself
	if !errors.As(err, &bad) || errors.As(err, &number) {
		return err
	}
	return fmt.Errorf("--%s: %w", bad.GetFlag().Name, bad.Unwrap())
}

// complaint is what is written of an error. What is wrong with a file of
// settings begins with the file's name and the line, as compilers have it.
func complaint(err error) string {
	var problems config.Problems
	if !errors.As(err, &problems) {
		return fmt.Sprintf("replicad: %v\n", err)
	}
	var lines strings.Builder
	for _, p := range problems {
		if p.Origin.Layer != config.File {
			lines.WriteString("replicad: ")
		}
		lines.WriteString(p.String() + "\n")
	}
	return lines.String()
}

// noArguments refuses arguments that are no flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	what := "argument"
	if cmd.HasSubCommands() {
		what = "command"
	}
	return usageError{fmt.Errorf("unknown %s %q", what, args[0]), cmd.CommandPath()}
}
